# `make` lists the targets. Each target sets up what it needs; if that is up to date, it takes no time.
# tools/misc/setup_env.sh does the setup and documents the environment variables that it reads.

# onedl, openmmlab, or none (the packages of the active Python).
STACK ?= onedl
# The interpreter for the environment; by default the first suitable one of python3, 3.11, 3.12,
# 3.10 and 3.13.
PYTHON ?=
# Another torch version than the stack's; by default that of the existing environment.
TORCH ?=
# More arguments for tools/demo.py, for pytest and for the sweep.
DEMO_ARGS ?=
PYTEST_ARGS ?=
SWEEP_ARGS ?= --sample 30
# For `make gpu`: time in seconds, folder of the results, CIFAR-10 in folders, more arguments.
BUDGET ?= 600
OUT ?= docs/results/gpu
DATA ?=
GPU_ARGS ?=
# The number of random examples in `make fuzz`; the tests alone use 300 fixed ones.
FUZZ_EXAMPLES ?= 10000
# The folder for the pictures that `make experiments` generates.
SMOKE_DATA ?= data/experiments-smoke

VENV := $(if $(filter openmmlab,$(STACK)),.venv-openmmlab,.venv)
ACTIVE = $(or $(PYTHON),$(shell command -v python || command -v python3))
PY = $(if $(filter none,$(STACK)),$(ACTIVE),$(VENV)/bin/python)
# Uses as many processes as cores and memory allow. Tests that share slow fixtures run in one.
PYTEST = "$(PY)" -m pytest -n auto --max-worker-restart 0

# Waiting threads must not spin: if another process runs on the machine, this is several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-all runtimes toolboxes smoke fuzz sweep experiments evidence gpu lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'with STACK=onedl (default), openmmlab, or none (the active Python); PYTHON=...; TORCH=...;'
	@echo 'DEMO_ARGS="...", PYTEST_ARGS="..." and SWEEP_ARGS="..." are passed on; FUZZ_EXAMPLES=...'

setup: ## make a virtual environment with the stack, compile mmcv, install mmcnnmod
	@PYTHON='$(PYTHON)' TORCH='$(TORCH)' tools/misc/setup_env.sh '$(STACK)'

demo: setup ## run the demo (tools/demo.py)
	"$(PY)" tools/demo.py $(DEMO_ARGS)

test: lint ## run ruff and all tests except the slow ones
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: lint ## run ruff and all tests
	$(PYTEST) $(PYTEST_ARGS)

runtimes: setup ## install ONNX Runtime and OpenVINO, and test exported networks
	"$(VENV)/bin/uv" pip install --python "$(PY)" -c requirements/$(STACK)-constraints.txt \
	    -r requirements/$(if $(filter openmmlab,$(STACK)),openmmlab-)runtimes.txt
	"$(PY)" -c 'import onnx, onnxruntime, openvino'
	$(PYTEST) -k 'onnx or openvino or deploy or exported' tests/test_analysis tests/test_deploy \
	    tests/test_docs tests/test_examples.py tests/test_layers tests/test_ops $(PYTEST_ARGS)

toolboxes: setup ## install another toolbox (mmrotate or mmpose) and run its tests
	"$(VENV)/bin/uv" pip install --python "$(PY)" --no-deps -r requirements/$(STACK)-others.txt
	"$(PY)" -m pytest tests/test_toolboxes/test_others.py $(PYTEST_ARGS)

smoke: setup ## run a few tests that show whether a stack works
	"$(PY)" -m pytest -m smoke $(PYTEST_ARGS)

fuzz: setup ## test random options, maps and configs
	FUZZ_EXAMPLES='$(FUZZ_EXAMPLES)' $(PYTEST) tests/test_fuzz \
	    tests/test_checkpoints/test_hostile_files.py $(PYTEST_ARGS)

sweep: setup ## test a sample of the toolboxes' configs with MoD backbones (.dev_scripts/sweep_upstream_configs.py)
	"$(PY)" .dev_scripts/sweep_upstream_configs.py $(SWEEP_ARGS)

experiments: setup ## run a small plan on generated pictures on a CPU, from scratch, and report it
	rm -rf work_dirs/experiments/smoke work_dirs/experiments/smoke.json
	"$(PY)" tools/dataset_tools/generate_data.py imagenet '$(SMOKE_DATA)' \
	    --size 64x32 --classes 4 --train 320 --val 80
	"$(PY)" tools/experiments/run.py configs/experiments/smoke.yml --data-root '$(SMOKE_DATA)' --device cpu
	"$(PY)" tools/experiments/report.py --plans configs/experiments/smoke.yml \
	    --results work_dirs/experiments --out work_dirs/experiments/results.md

# The old name, for one release.
evidence: experiments
	@echo 'make evidence is now called make experiments; the old name will be removed in the next release'

gpu: setup ## run tests, benchmarks and, with DATA=DIR, CIFAR-10 on a GPU (tools/misc/gpu.py)
	"$(PY)" tools/misc/gpu.py --budget '$(BUDGET)' --out '$(OUT)' $(if $(DATA),--data '$(DATA)') $(GPU_ARGS)

lint: setup ## run ruff without changing files
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .

format: setup ## fix and format the code with ruff
	"$(PY)" -m ruff check --fix .
	"$(PY)" -m ruff format .

clean: ## remove the virtual environments, builds and caches (the compiled mmcv stays in ~/.cache)
	rm -rf .venv .venv-openmmlab build dist *.egg-info mmcnnmod/.mim
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
