#!/usr/bin/env bash
# Repeats the CPU measurements of docs/performance.md and writes docs/results/speed/*.json and
# docs/results/speed.md. It takes about half an hour on two cores; nothing else may run.
#
#   .dev_scripts/measure_speed.sh            # measurements and report
#   .dev_scripts/measure_speed.sh --report   # only the report, from existing files
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
results=docs/results/speed
system=$(. /etc/os-release && echo "$PRETTY_NAME")
processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
instructions=$("$python" -c 'import torch; print(torch.backends.cpu.get_cpu_capability())')

measure() { # measure NAME [OPTION...]
    local name=$1
    shift
    "$python" tools/analysis_tools/benchmark.py "$@" --device cpu --json "$results/$name.json" \
        --machine "$(nproc) cores, $processor ($instructions), $system, $("$python" --version)" >/dev/null
}

if [[ ${1:-} != --report ]]; then
    measure cpu_inference --runtimes eager deploy --batch-sizes 1 8 \
        --memory-formats contiguous channels_last
    measure cpu_training resnet50_in1k resnet50-mod_in1k resnet75-mod_in1k --what training \
        --batch-sizes 4 --memory-formats contiguous channels_last
    measure cpu_compile resnet50_in1k resnet75-mod_in1k \
        --runtimes compile deploy-compile --batch-sizes 1 8 --memory-formats channels_last
    measure cpu_exported resnet50_in1k resnet75-mod_in1k resnet86-mod_in1k \
        --runtimes onnxruntime openvino openvino-default --batch-sizes 1 8 --rounds 15
fi

{
    cat <<'END'
# Speed, measured

What `benchmark.py --show` prints of the files in [speed](speed), which `.dev_scripts/measure_speed.sh` writes; the columns
are explained in [performance.md](../performance.md#measure). Compare milliseconds within a table only. A GPU's
are in [gpu](gpu/README.md).
END
    for file in "$results"/*.json; do
        printf '\n## %s\n\n' "$(basename "$file" .json)"
        "$python" tools/analysis_tools/benchmark.py --show "$file"
    done
} >docs/results/.speed.md.partial
mv docs/results/.speed.md.partial docs/results/speed.md
