# Each target sets up what it needs; the second time that takes no time. `make` lists the targets.
# The work is done by tools/misc/setup_env.sh, which also says what it reads from the environment.

# onedl, openmmlab, or none: whatever the active Python already has.
STACK ?= onedl
# The interpreter to set up with; empty: the first of python3, 3.11, 3.12, 3.10, 3.13 that suits.
PYTHON ?=
# Another torch than the stack's; empty: what the environment was made with.
TORCH ?=
# More arguments for tools/demo.py, for pytest and for the sweep.
DEMO_ARGS ?=
PYTEST_ARGS ?=
SWEEP_ARGS ?= --sample 30
# Of `make gpu`: seconds, where the results go, CIFAR-10 in folders, more arguments.
BUDGET ?= 600
OUT ?= docs/results/gpu
DATA ?=
GPU_ARGS ?=
# How many random examples `make fuzz` draws; the tests alone draw 300, always the same.
FUZZ_EXAMPLES ?= 10000
# The pictures that `make experiments` draws.
SMOKE_DATA ?= data/experiments-smoke

VENV := $(if $(filter openmmlab,$(STACK)),.venv-openmmlab,.venv)
ACTIVE = $(or $(PYTHON),$(shell command -v python || command -v python3))
PY = $(if $(filter none,$(STACK)),$(ACTIVE),$(VENV)/bin/python)
# In as many processes as cores and memory allow; tests that share what takes long to make, in one.
PYTEST = "$(PY)" -m pytest -n auto

# Threads that wait must not spin: with another process on the machine that costs a factor.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-all runtimes toolboxes smoke fuzz sweep experiments evidence gpu lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'with STACK=onedl (default), openmmlab, or none (the active Python); PYTHON=...; TORCH=...;'
	@echo 'DEMO_ARGS="...", PYTEST_ARGS="..." and SWEEP_ARGS="..." are handed on; FUZZ_EXAMPLES=...'

setup: ## a virtual environment with the stack, mmcv compiled, mmcnnmod installed
	@PYTHON='$(PYTHON)' TORCH='$(TORCH)' tools/misc/setup_env.sh '$(STACK)'

demo: setup ## the demonstration (tools/demo.py)
	"$(PY)" tools/demo.py $(DEMO_ARGS)

test: lint ## ruff, then every test but those marked slow
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: lint ## ruff, then every test
	$(PYTEST) $(PYTEST_ARGS)

runtimes: setup ## ONNX Runtime and OpenVINO into the environment, and the tests of exported networks
	"$(VENV)/bin/uv" pip install --python "$(PY)" -c requirements/$(STACK)-constraints.txt \
	    -r requirements/$(if $(filter openmmlab,$(STACK)),openmmlab-)runtimes.txt
	"$(PY)" -c 'import onnx, onnxruntime, openvino'
	$(PYTEST) -k 'onnx or openvino or deploy or exported' tests/test_analysis tests/test_deploy \
	    tests/test_docs tests/test_examples.py tests/test_layers tests/test_ops $(PYTEST_ARGS)

toolboxes: setup ## another toolbox into the environment (mmrotate, or mmpose), and its tests
	"$(VENV)/bin/uv" pip install --python "$(PY)" --no-deps -r requirements/$(STACK)-others.txt
	"$(PY)" -m pytest tests/test_toolboxes/test_others.py $(PYTEST_ARGS)

smoke: setup ## the few tests that tell whether a stack works at all
	"$(PY)" -m pytest -m smoke $(PYTEST_ARGS)

fuzz: setup ## random options, maps and configs: each is the definition's result, or one line
	FUZZ_EXAMPLES='$(FUZZ_EXAMPLES)' $(PYTEST) tests/test_fuzz \
	    tests/test_checkpoints/test_hostile_files.py $(PYTEST_ARGS)

sweep: setup ## a sample of the toolboxes' configs with MoD backbones (.dev_scripts/sweep_upstream_configs.py)
	"$(PY)" .dev_scripts/sweep_upstream_configs.py $(SWEEP_ARGS)

experiments: setup ## a small plan of runs on generated pictures, on a CPU, anew each time, and its report
	rm -rf work_dirs/experiments/smoke work_dirs/experiments/smoke.json
	"$(PY)" tools/dataset_tools/generate_data.py imagenet '$(SMOKE_DATA)' \
	    --size 64x32 --classes 4 --train 320 --val 80
	"$(PY)" tools/experiments/run.py configs/experiments/smoke.yml --data-root '$(SMOKE_DATA)' --device cpu
	"$(PY)" tools/experiments/report.py --plans configs/experiments/smoke.yml \
	    --results work_dirs/experiments --out work_dirs/experiments/results.md

# The old name, for one release.
evidence: experiments

gpu: setup ## what a GPU shows: tests, speed and, with DATA=DIR, CIFAR-10 (tools/misc/gpu.py)
	"$(PY)" tools/misc/gpu.py --budget '$(BUDGET)' --out '$(OUT)' $(if $(DATA),--data '$(DATA)') $(GPU_ARGS)

lint: setup ## ruff's checks, changing nothing
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .

format: setup ## ruff's fixes, in place
	"$(PY)" -m ruff check --fix .
	"$(PY)" -m ruff format .

clean: ## removes the virtual environments, builds and caches (the compiled mmcv stays in ~/.cache)
	rm -rf .venv .venv-openmmlab build dist *.egg-info mmcnnmod/.mim
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
