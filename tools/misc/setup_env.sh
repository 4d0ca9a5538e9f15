#!/usr/bin/env bash
# Sets up one stack: tools/misc/setup_env.sh onedl|openmmlab|none   (what `make setup` runs)
#
# onedl and openmmlab each have their own virtual environment, with the versions pinned in
# requirements/, mmcv with its operators, and an editable install of the plugin. `none` only installs
# the plugin into the active Python. A stamp file is written last. If it is up to date, the next run
# returns immediately. An environment without it is incomplete and is made again, from uv's cache
# and the compiled mmcv in ~/.cache/mmcnnmod.
#
# Environment variables: PYTHON (the interpreter to use), TORCH (another version than the pinned one;
# the environment keeps it until another one is set), MAX_JOBS (number of parallel compilers),
# FORCE_CUDA=1 (compile mmcv's CUDA operators without a visible GPU), SKIP_DISK_CHECK=1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

STACK=${1:-onedl}
UV_PIN=0.13.8
export CXX=${CXX:-g++}
DISK_GB=8  # the environment takes 5.5 GB, nearly all of it torch with its CUDA libraries

say() { echo "[$STACK, $SECONDS s] $*"; }
die() {
    echo "set-up: $*" >&2
    exit 1
}

# --- progress: print a line every 10 s during long steps ----------------------------------------
# The reader of fd 8 never gets any input. It wakes up every 10 s and ends when fd 8 is closed, by
# unbeat or at the end of this script.
beat() { # beat WHAT [LOG]: with LOG, show the progress of the compilation that writes to it
    if [[ $# == 1 && -t 2 ]]; then return; fi # uv shows its own progress on a terminal
    exec 8> >(
        since=$SECONDS
        while read -rt 10 || [[ $? -gt 128 ]]; do
            passed=$((SECONDS - since))
            files=$(grep -oE ' \[[0-9]+/[0-9]+\] ' "${2:-/dev/null}" 2>/dev/null | tail -n 1) || :
            if [[ -n $files ]]; then
                echo "$1: $(tr -d ' []' <<<"$files") files compiled, $passed s"
            else
                echo "$1: $passed s"
            fi
        done
    )
}
unbeat() { exec 8>&-; }

# --- STACK=none: the plugin alone, into the active Python ---------------------------------------
# shellcheck disable=SC2016 # Python, not shell
INSTALLED_HERE='
import importlib.metadata as m, json, pathlib, re, sys
sys.path.pop(0)  # the checkout itself, where an egg-info would answer for an installation
try: dist = m.distribution("mmcnnmod")
except m.PackageNotFoundError: sys.exit(1)
origin = json.loads(dist.read_text("direct_url.json") or "{}")
version = re.search("__version__ = .(.+).", pathlib.Path("mmcnnmod/version.py").read_text()).group(1)
sys.exit(origin.get("url") != pathlib.Path.cwd().as_uri() or dist.version != version
         or not origin.get("dir_info", {}).get("editable"))'

install_plugin_only() {
    local py=${PYTHON:-} flags=(--no-deps -e .)
    [[ -n $py ]] || py=$(command -v python || command -v python3) ||
        die "no active python: activate the environment to use, or name one with PYTHON=..."
    if [[ -L mmcnnmod/.mim/configs ]] && "$py" -c "$INSTALLED_HERE"; then
        say "up to date: mmcnnmod is installed in $py"
        return
    fi
    say "installing only mmcnnmod, editable, into $py; every other package stays as it is"
    # With the environment's own setuptools nothing at all is downloaded, if it is new enough: 64
    # for editable installs, and 70.1 or the package wheel to make wheels.
    if "$py" -c '
import setuptools, sys
version = tuple(map(int, setuptools.__version__.split(".")[:2]))
if version < (70, 1): import wheel
sys.exit(version < (64, 0))' 2>/dev/null; then
        flags+=(--no-build-isolation)
    fi
    if "$py" -m pip --version >/dev/null 2>&1; then
        "$py" -m pip install "${flags[@]}"
    elif command -v uv >/dev/null; then
        uv pip install --python "$py" "${flags[@]}"
    else
        die "$py has neither pip nor uv: run '$py -m ensurepip' first"
    fi
    "$py" -c 'import pytest, ruff, xdist' 2>/dev/null ||
        say "'make test' also needs: $py -m pip install -r requirements/tests.txt"
}

case $STACK in
    onedl) VENV=.venv RANGE='3.10 3.11 3.12 3.13' MMCV=onedl-mmcv ;;
    openmmlab) VENV=.venv-openmmlab RANGE='3.10 3.11' MMCV=mmcv ;;
    none)
        install_plugin_only
        exit
        ;;
    *) die "STACK is onedl, openmmlab or none, not '$STACK'" ;;
esac
PY=$VENV/bin/python

# --- is there anything to do? -------------------------------------------------------------------
STAMP=$VENV/.set-up
if [[ -z ${TORCH:-} && -r $STAMP && $(<"$STAMP") =~ ' torch='([^ ]*) ]]; then
    TORCH=${BASH_REMATCH[1]}
fi
INPUTS=(requirements/"$STACK"*.txt requirements/{overrides,tests}.txt setup.py
    mmcnnmod/version.py mmcnnmod/ops/mod_block.cpp tools/misc/setup_env.sh)

python_version() { "$1" -ISc 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

# Same Python, torch and path; scripts and the editable install contain the path.
same_venv() {
    local version
    version=$(python_version "$PY") && [[ -r $STAMP && $(<"$STAMP") == "$version torch=${TORCH:-} $PWD "* ]] &&
        [[ -z ${PYTHON:-} || $(python_version "$PYTHON") == "$version" ]]
}
inputs_hash() { cat "${INPUTS[@]}" | sha256sum | cut -c1-32; } # fails if one is missing
up_to_date() { same_venv && [[ $(<"$STAMP") == *" $(inputs_hash)" && -L mmcnnmod/.mim/configs ]]; }

if up_to_date; then
    say "up to date: $VENV"
    exit
fi
# Only one setup at a time in a checkout. The lock is on this script, so it needs no other file.
exec 9<tools/misc/setup_env.sh
if ! flock -n 9; then
    say "waiting for another setup in this checkout"
    flock 9
    if up_to_date; then exit; fi
fi

# --- 1: what the machine needs ------------------------------------------------------------------
PROBE='
import os, sys, sysconfig
lacks = []
try: import ensurepip, venv
except ImportError: lacks.append("venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")): lacks.append("dev")
print("%d.%d" % sys.version_info[:2], *lacks)'

choose_python() { # sets BASE: the first interpreter that works, fits the stack and is complete
    local candidates=(python3 python3.11 python3.12 python3.10 python3.13) candidate version lacks
    local lacking='' others=''
    if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        # Run it: a version manager can leave commands that do not work.
        version=$("$candidate" -c "$PROBE" 2>/dev/null) || continue
        read -r version lacks <<<"$version"
        if [[ " $RANGE " != *" $version "* ]]; then
            others+="${others:+, }$candidate is $version"
        elif [[ -n $lacks ]]; then
            lacking=${lacking:-$candidate ${lacks%% *}}
        else
            BASE=$candidate
            say "1/5 $candidate is Python $version"
            return
        fi
    done
    candidate=${lacking% *}
    case $lacking in
        *' venv') die "$candidate cannot make virtual environments:" \
            "apt-get install ${candidate##*/}-venv ${candidate##*/}-dev" ;;
        *' dev') die "$candidate has no Python.h to compile mmcv with:" \
            "apt-get install ${candidate##*/}-dev" ;;
    esac
    die "STACK=$STACK runs on Python ${RANGE// / or }; found: ${others:-none that works};" \
        "install one of these or name it with PYTHON=..."
}

check_machine() {
    choose_python
    command -v "$CXX" >/dev/null ||
        die "no C++ compiler ($CXX) to compile mmcv with: apt-get install g++"
    local free
    free=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1048576))
    [[ $free -ge $DISK_GB || -d $VENV/lib || ${SKIP_DISK_CHECK:-} == 1 ]] ||
        die "$free GB free on this disk and up to $DISK_GB GB needed: free some, or set" \
            "SKIP_DISK_CHECK=1 if uv's cache already holds the packages"
}

# --- 2 and 3: the environment, uv, torch --------------------------------------------------------
PINS=requirements
uv_install() {
    "$VENV/bin/uv" pip install --python "$PY" --no-build-isolation \
        -c "$PINS/$STACK-constraints.txt" --override "$PINS/overrides.txt" "$@"
}

pin_torch() { # sets PINS for the torch of TORCH, without pins for torch's own dependencies
    local name
    PINS=$VENV/requirements
    mkdir -p "$PINS"
    for name in requirements/*.txt; do
        sed -E "s/^torch==.*/torch==$TORCH/; s/^torchvision==.*/torchvision/
            /^(triton|sympy|nvidia-|cuda-)/d" "$name" >"$PINS/${name##*/}"
    done
}

make_venv() {
    if same_venv && [[ $("$VENV/bin/uv" --version 2>/dev/null) == "uv $UV_PIN"* ]]; then
        say "2/5 $VENV exists: updating it"
        rm -f "$STAMP"
        return
    fi
    say "2/5 making $VENV"
    rm -rf "$VENV"
    "$BASE" -m venv "$VENV"
    "$PY" -m pip --disable-pip-version-check install "uv==$UV_PIN" ||
        die "could not install uv (see above)"
}

install_torch() {
    say "3/5 installing torch${TORCH:+ $TORCH} and the build tools" \
        "(2 to 3 GB to download unless uv's cache has them)"
    if [[ -n ${TORCH:-} ]]; then pin_torch; fi
    beat torch
    uv_install -r "$PINS/$STACK-torch.txt" ||
        die "could not install torch (see above); the next run continues from uv's cache"
    unbeat
}

# --- 4: mmcv, compiled against that torch -------------------------------------------------------
# mmcv's build uses CUDA as soon as torch sees a GPU, and torch refuses an nvcc with another major
# version than its own. So find out in advance which operators can be compiled.
OPERATORS='
import os, re, subprocess, torch
from torch.utils.cpp_extension import CUDA_HOME
major = (torch.version.cuda or "none").split(".")[0]
gpus = range(torch.cuda.device_count())
archs = os.environ.get("TORCH_CUDA_ARCH_LIST") or " ".join(
    sorted({"%d.%d" % torch.cuda.get_device_capability(i) for i in gpus}))
kind = re.sub(r"[^0-9A-Za-z.]+", "_", "cuda%s_%s" % (major, archs))
if os.environ.get("FORCE_CUDA") != "1":
    if not torch.cuda.is_available(): kind = "cpu"
    elif not CUDA_HOME: kind = "nvcc-missing"
    else:
        nvcc = subprocess.run([CUDA_HOME + "/bin/nvcc", "-V"], capture_output=True, text=True)
        if re.findall(r"release (\d+)", nvcc.stdout)[:1] != [major]: kind = "nvcc-other"
print(kind, torch.__version__, major)'

choose_operators() { # sets OPS, the target of mmcv's operators, and STORE, the folder of its wheel
    local pin=$1 torch cuda python
    read -r OPS torch cuda <<<"$("$PY" -W ignore -c "$OPERATORS" 2>/dev/null)"
    [[ -n $torch ]] || die "cannot import torch in $VENV: see $PY -c 'import torch'"
    if [[ $OPS == nvcc-* ]]; then
        say "WARNING: there is a GPU, but no nvcc of CUDA $cuda (torch's version): mmcv's operators" \
            "will run on the CPU only. For GPU operators, install the CUDA toolkit $cuda," \
            "remove $VENV and set up again."
        OPS=cpu
        export CUDA_VISIBLE_DEVICES=
    fi
    # The wheel depends on more than mmcv's version, which is all that the caches of uv and pip
    # consider: they could return one without operators, or one compiled for another torch.
    STORE=${XDG_CACHE_HOME:-${HOME:-$PWD/$VENV}/.cache}/mmcnnmod
    python=$(python_version "$PY")
    STORE+=/${pin/==/-}-torch$torch-$OPS-py${python%.*}-$(uname -m)
}

choose_jobs() { # sets MAX_JOBS: one compiler per core, with at least 2 GB of memory each
    local limit=/sys/fs/cgroup/memory.max kb
    kb=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
    if [[ -r $limit && $(<"$limit") != max && $(($(<"$limit") / 1024)) -lt $kb ]]; then
        kb=$(($(<"$limit") / 1024))
    fi
    : "${MAX_JOBS:=$(($(nproc) < kb / 2000000 ? $(nproc) : kb / 2000000))}"
    [[ $MAX_JOBS -ge 1 ]] || MAX_JOBS=1
    export MAX_JOBS NINJA_STATUS='[%f/%t] '
}

# Most of the time for mmcv's 78 files goes into debug information and into parsing torch's headers
# for each file. So leave out the debug information, and precompile the headers for GCC with the
# flags of the build. These are the interpreter's flags, with its -O, which setuptools uses only
# if CFLAGS is not set.
FLAGS='
import sysconfig, torch
from torch.utils.cpp_extension import include_paths
print(*sysconfig.get_config_vars("CFLAGS", "CCSHARED"),
      "-D_GLIBCXX_USE_CXX11_ABI=%d" % torch._C._GLIBCXX_USE_CXX11_ABI)
print(*include_paths(), sep=":")'

# Sets CFLAGS; STD, the C++ standard that torch needs; and the expected seconds for mmcv: WORK on one
# core, LEAST (its longest file) on many.
compile_headers() {
    local header=$TMPDIR/torch.h flags
    echo '#include <torch/types.h>' >"$header"
    flags=$("$PY" -W ignore -c "$FLAGS")
    CFLAGS="${flags%%$'\n'*} -g0 ${CFLAGS:-}"
    for STD in c++17 c++20 c++23 ''; do
        [[ -n $STD ]] || return 1
        WORK=$SECONDS
        # shellcheck disable=SC2086 # several flags
        CPATH=${flags##*$'\n'} "$CXX" $CFLAGS -std=$STD -Wfatal-errors \
            -x c++-header "$header" -o "$header.gch" && break
    done
    WORK=$((SECONDS - WORK + 1)) # measures the speed of this machine
    LEAST=$((WORK * 3))
    # If the precompiled header does not fit, GCC warns and reads the text; other compilers fail.
    if "$CXX" --version | grep -q 'Free Software Foundation'; then
        CFLAGS+=" -Winvalid-pch -include '$header'"
        WORK=$((WORK * 12))
    else
        rm -f "$header.gch"
        WORK=$((WORK * 60))
    fi
}

build_wheel() {
    "$PY" -m pip download --no-deps --no-build-isolation --no-binary "$MMCV" -d "$TMPDIR" "$1" &&
        tar -xzf "$TMPDIR"/*.tar.gz -C "$TMPDIR/source" --strip-components 1 &&
        sed -i "s/-std=c++17/-std=$STD/" "$TMPDIR/source/setup.py" &&
        "$PY" -m pip wheel -v -w "$TMPDIR" --use-pep517 --no-deps --no-build-isolation \
            "$TMPDIR/source"
}

compile_mmcv() { # leaves the wheel in STORE
    local pin=$1 log=$VENV/mmcv-build/log wheel
    local -x CFLAGS=${CFLAGS:-} TMPDIR=$PWD/$VENV/mmcv-build/tmp
    local -x PATH=$PWD/$VENV/bin:$PATH # with ninja
    failed() {
        unbeat
        tail -n 20 "$log" >&2
        die "could not build $pin; the whole log is in $log"
    }
    rm -rf "${log%/*}"
    mkdir -p "$TMPDIR/source"
    # shellcheck disable=SC2064 # expand it now, while the variable exists
    trap "rm -rf '$TMPDIR'" EXIT # the compiled headers take 400 MB
    beat "torch's headers"
    compile_headers &>"$log" || failed
    unbeat
    say "compiling $pin for $OPS takes about $((WORK / MAX_JOBS > LEAST ? WORK / MAX_JOBS : LEAST)) s with $MAX_JOBS job(s)$(
        [[ $OPS == cpu ]] || echo ', and several times that for CUDA'
    ); log: $log"
    beat mmcv "$log"
    build_wheel "$pin" &>>"$log" || failed
    unbeat
    # Copy and rename, so that the wheel is complete even if two checkouts do this at the same time.
    mkdir -p "$STORE"
    wheel=$(cd "$TMPDIR" && echo *.whl)
    cp "$TMPDIR/$wheel" "$STORE/.$$"
    mv "$STORE/.$$" "$STORE/$wheel"
    rm -rf "$TMPDIR"
}

PROOF='
import sys, torch
import mmcv.ops
on_gpu = sys.argv[1] != "cpu"
if on_gpu and mmcv.ops.get_compiling_cuda_version() == "not available":
    sys.exit("it has no CUDA operators")
to = dict(device="cuda" if on_gpu and torch.cuda.is_available() else "cpu")
boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 28, 28]], **to)
if mmcv.ops.nms(boxes, torch.tensor([0.7, 0.8, 0.9], **to), 0.5)[1].tolist() != [2, 1]:
    sys.exit("its nms chooses the wrong boxes")'

mmcv_works() { # sets ERROR to the reason if it does not
    if ERROR=$("$PY" -W ignore -c "$PROOF" "$OPS" 2>&1); then return 0; fi
    ERROR=${ERROR##*$'\n'}
    return 1
}

try_stored() { # installs the wheel of STORE
    uv_install --reinstall-package "$MMCV" "$STORE"/*.whl || die "could not install mmcv (see above)"
    mmcv_works
}

try_published() { # installs a wheel from the indexes that the user has configured for uv or pip
    local wheels=$VENV/published only=(--only-binary "$MMCV" "$1")
    rm -rf "$wheels"
    mkdir "$wheels"
    uv_install --reinstall-package "$MMCV" "${only[@]}" &>"$wheels/log" || {
        "$PY" -m pip download --no-deps -d "$wheels" "${only[@]}" &&
            uv_install --reinstall-package "$MMCV" "$wheels"/*.whl
    } &>>"$wheels/log" || return 1
    mmcv_works && return
    say "an index has a wheel of $1, but it does not work here ($ERROR)"
    return 1
}

install_mmcv() {
    local pin
    pin=$(grep "^$MMCV==" "requirements/$STACK.txt")
    say "4/5 mmcv with its operators"
    choose_operators "$pin"
    choose_jobs
    if compgen -G "$STORE/*.whl" >/dev/null; then
        say "nothing to compile: the wheel from an earlier setup is in $STORE"
        if try_stored; then return; fi
        # For instance an undefined symbol, because the wheel was compiled for another torch.
        say "this mmcv does not work ($ERROR): compiling it again, without a cache"
        rm -rf "$STORE"
    elif try_published "$pin"; then
        say "nothing to compile: an index had a wheel of $pin, and it works"
        return
    fi
    compile_mmcv "$pin"
    try_stored || die "mmcv does not work, though just compiled for this torch: $ERROR"
}

# --- 5: the toolboxes, the test tools and the plugin; then a check --------------------------
install_rest() {
    say "5/5 installing the toolboxes, the test tools and mmcnnmod"
    beat toolboxes
    uv_install -r "$PINS/$STACK.txt" -r "$PINS/tests.txt" ||
        die "could not install the toolboxes (see above)"
    uv_install --no-deps -e . || die "could not install mmcnnmod itself (see above)"
    unbeat
    say "importing all packages as a check"
    beat importing
    "$PY" -W ignore -c '
import mmcv.ops, mmdet, mmpretrain, mmseg, torch, torchvision
for m in (torch, torchvision, mmcv, mmpretrain, mmseg, mmdet): print(m.__name__, m.__version__)' ||
        die "installed, but not importable (see above)"
    # docker/Dockerfile sets up before it copies the sources.
    if [[ -f mmcnnmod/ops/__main__.py ]]; then
        "$PY" -W ignore -m mmcnnmod.ops || die "mmcnnmod.ops does not import (see above)"
    fi
    unbeat
}

export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} # for a 600 MB wheel on a slow connection
check_machine
make_venv
install_torch
install_mmcv
install_rest
echo "$(python_version "$PY") torch=${TORCH:-} $PWD $(inputs_hash)" >"$STAMP"
say "ready: $VENV (to use it yourself: source $VENV/bin/activate)"
