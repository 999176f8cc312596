# From an empty clone: `make demo` or `make test`. Everything lands in .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SEED ?= $(shell date +%s)
UV := $(shell command -v uv 2>/dev/null)
# Hundreds of processes load torch here; without stored bytecode each would compile it anew, for seconds.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help setup demo test test-all lint format types check bench results docs docs-pictures lock wheel clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

setup: $(VENV)/.installed  ## make .venv from requirements.lock

# The stamp comes last: a set-up that was broken off is taken up again. Hashes are checked, the builder's too.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12'; exit 1; }
ifneq ($(UV),)
	test -x $(BIN)/python || { rm -rf $(VENV); uv venv --python "$$(command -v $(PYTHON))" $(VENV); }
	uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	test -x $(BIN)/pip || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
endif
	@touch $@

demo: setup  ## train on handwritten digits, make a report, answer
	$(BIN)/python examples/digits.py

# A worker a core. They take whole stretches of tests, so that what neighbours share is made once.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test: setup  ## the quick tests; ARGS="-k name" picks some
	$(PYTEST) -m "not slow" $(ARGS)

# The command is printed, so the seed is: `make test-all SEED=n` draws the same examples again.
test-all: setup  ## the slow tests, and random ones on new examples; ARGS as for test
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile new --hypothesis-seed $(SEED) $(ARGS)

lint: setup  ## style, and formatting as it would be
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## types of the package
	$(BIN)/mypy

check: lint types  ## both of these

bench: setup  ## how fast it is on this machine; ARGS="--help" lists options
	$(BIN)/python -m benchmarks.run $(ARGS)

results: setup  ## the figures in docs and recipe heads, from benchmarks/results/
	$(BIN)/python -m benchmarks.results_pages

docs: setup  ## build/site, to be read from the disk; its classifier takes a minute, once
	$(BIN)/python docs/site/runs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: build/site/index.html"

docs-pictures: setup  ## docs/images anew, of real runs (needs Chromium)
	$(BIN)/python docs/site/pictures.py

lock:  ## choose the newest versions anew and write requirements.lock (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-config --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --quiet --output-file requirements.lock

wheel: setup  ## dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m hatchling build

clean:  ## remove all that was made here, .venv and the demo's run too
	rm -rf $(VENV) .uv build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
