# `make demo` and `make test` need nothing but this checkout, Python >= 3.11 and a package index.
PYTHON ?= python3

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -c constraints.txt

# Tests wait for other processes about as often as they compute, so there are three workers for two cores.
CORES := $(shell getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2)
PYTEST := $(BIN)/python -m pytest -n $(shell expr $(CORES) \* 3 / 2) --dist loadfile

.PHONY: help demo test quick check faults nightly bench clean
.DELETE_ON_ERROR:

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## train a small classifier on the CPU
	$(BIN)/python examples/digits.py

test: .venv/dev.stamp ## run the whole test suite, doctests and documents included
	$(PYTEST) --durations 20

quick: .venv/dev.stamp ## run the tests of the core that start no other processes
	$(PYTEST) -m "not processes" \
		tests/frame tests/engine tests/metrics tests/handlers tests/debug ignite_core

check: .venv/dev.stamp ## format, lint, types, documentation
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

faults: .venv/dev.stamp ## inject every fault in full, which takes hours: docs/reliability.md
	IGNITE_CORE_FAULTS=full $(BIN)/python -m pytest tests/faults tests/handlers tests/distributed tests/engine tests/metrics tests/examples

nightly: .venv/nightly.stamp .venv-xla/xla.stamp ## run the tests with what is too large to install for every change: Ray, XLA
	IGNITE_CORE_NIGHTLY=1 $(BIN)/python -m pytest -m nightly tests
	IGNITE_CORE_NIGHTLY=1 .venv-xla/bin/python -m pytest tests/distributed/test_xla.py

bench: .venv/bench.stamp ## what everything costs, beside its peers
	$(BIN)/python tests/benchmarks/engine.py
	$(BIN)/python tests/benchmarks/metrics.py
	$(BIN)/python tests/benchmarks/distributed.py
	$(BIN)/python tests/benchmarks/checkpoint.py
	$(BIN)/python tests/benchmarks/checkpoint_async.py
	$(BIN)/python tests/benchmarks/save_moves.py
	$(BIN)/python tests/benchmarks/resume.py
	$(BIN)/python tests/benchmarks/stopping.py
	$(BIN)/python tests/benchmarks/schedules.py
	$(BIN)/python tests/benchmarks/recipes.py
	$(BIN)/python tests/benchmarks/debugging.py
	$(BIN)/python tests/benchmarks/loggers.py
	$(BIN)/python tests/benchmarks/logger_servers.py

clean: ## remove whatever the commands above made
	rm -rf .venv .venv-xla .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, so a second call installs nothing.
# torch comes first and alone: whichever build is wanted, nothing after it brings another.
.venv/torch.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python >= 3.11 is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	touch $@

.venv/demo.stamp: .venv/torch.stamp pyproject.toml
	$(INSTALL) -e ".[examples]"
	touch $@

# Older versions of pip read the first variable, newer ones the second. It comes alone, too: what is installed need not
# be as old as what it is built with.
.venv/visdom.stamp: .venv/torch.stamp build-constraints.txt
	PIP_CONSTRAINT=build-constraints.txt PIP_BUILD_CONSTRAINT=build-constraints.txt \
		$(BIN)/python -m pip install --no-deps "$$(grep ^visdom== constraints.txt)"
	touch $@

.venv/dev.stamp: .venv/torch.stamp .venv/visdom.stamp pyproject.toml
	$(INSTALL) -e ".[dev,docs,examples]"
	touch $@

.venv/nightly.stamp: .venv/torch.stamp .venv/visdom.stamp pyproject.toml
	$(INSTALL) -e ".[dev,examples,nightly]"
	touch $@

# torch_xla needs the torch of its own version, on Linux: 5 GB with CUDA, which is not used.
.venv-xla/xla.stamp: constraints-xla.txt pyproject.toml
	$(PYTHON) -m venv .venv-xla
	.venv-xla/bin/python -m pip install -c constraints-xla.txt numpy pytest torch torch_xla -e .
	touch $@

.venv/bench.stamp: .venv/torch.stamp .venv/visdom.stamp pyproject.toml
	$(INSTALL) -e ".[bench]"
	touch $@
