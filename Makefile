# Every target makes what it needs: only Python >= 3.11 and make have to be there.
PYTHON ?= python3
VENV ?= .venv
# A pip constraints file, such as scripts/constraints-kaggle.txt
CONSTRAINTS ?=
DEMO ?= demo
COMP ?= pcam
RUN ?= runs/$(COMP)/first
DATA ?=
FROM ?=
DRY_RUN ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
SOURCE := setup.cfg pyproject.toml Makefile $(CONSTRAINTS)

TEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
# XLA compiles thousands of small functions, each for one call: without most of its passes, and the same one once.
JAX := KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 JAX_COMPILATION_CACHE_DIR=.pytest_cache/jax \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
JAX_TEST := $(JAX) $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup
JAX_TESTS := tests/explain tests/models tests/train tests/predict

.PHONY: help demo test test-real test-all fuzz lint train submit bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: $(VENV)/.user ## the whole job on a small made-up competition: a few minutes, no data needed
	$(BIN)/kit demo --out $(DEMO)
	$(BIN)/kit serve $(DEMO)/toy --check

test: $(VENV)/.dev ## the tests, on both Keras backends, without the longest
	$(TEST) -m "not slow"
	$(JAX_TEST) -m "not once and not slow" $(JAX_TESTS)

test-real: $(VENV)/.dev ## slow tests that CI runs, too: real images, no TensorFlow
	$(TEST) -m slow tests/test_real.py tests/test_without_tensorflow.py

test-all: $(VENV)/.dev ## all tests
	$(TEST)
	$(JAX_TEST) -m "not once" $(JAX_TESTS)

fuzz: $(VENV)/.dev ## the fuzzers, with 20 times as many inputs as in the tests
	KIT_FUZZ=20 $(TEST) tests/fuzz

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train: $(VENV)/.user ## train: make train COMP=pcam DATA=folder [RUN=runs/pcam/first]
	$(BIN)/kit run $(COMP) $(if $(DATA),--data $(DATA)) --run $(RUN)

submit: $(VENV)/.kaggle ## from here to a leaderboard score: make submit COMP=pcam [DRY_RUN=1] [FROM=a finished run]
	$(BIN)/kit submit $(COMP) $(if $(FROM),--from-run $(FROM)) $(if $(DATA),--data $(DATA)) $(if $(DRY_RUN),--dry-run) $(ARGS)

bench: $(VENV)/.bench ## timings against the alternatives: make bench DATA=folder (with pcam/, xrays/, dicoms/, tables/)
	$(BIN)/python scripts/bench/augment.py
	$(BIN)/python scripts/bench/train.py
	$(BIN)/python scripts/bench/evaluate.py
	$(BIN)/python scripts/bench/boxes.py
	$(BIN)/python scripts/bench/batches.py
	$(BIN)/python scripts/bench/explain.py
	$(BIN)/python scripts/bench/report.py
	$(BIN)/python scripts/bench/serve.py
	$(BIN)/python scripts/bench/commands.py
	$(if $(DATA),$(BIN)/python scripts/bench/predict.py --pcam $(DATA)/pcam --xrays $(DATA)/xrays)
	$(BIN)/python scripts/bench/input.py $(if $(DATA),--pcam $(DATA)/pcam --xrays $(DATA)/xrays)
	$(if $(DATA),$(BIN)/python scripts/bench/build.py --pcam $(DATA)/pcam --xrays $(DATA)/xrays --dicoms $(DATA)/dicoms)
	$(if $(DATA),$(BIN)/python scripts/bench/check.py $(DATA)/pcam $(DATA)/xrays $(DATA)/dicoms)
	$(if $(DATA),$(BIN)/python scripts/bench/cells.py $(DATA)/tables)

clean: ## remove environments, caches and the demo; runs/ stays
	rm -rf .venv* build dist *.egg-info $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "kit needs Python 3.11 or newer, this is %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet --upgrade pip # an old one resolves this list for minutes

$(VENV)/.user: $(BIN)/python $(SOURCE)
	$(PIP) --editable '.[serve]'
	@touch $@

$(VENV)/.dev: $(BIN)/python $(SOURCE)
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.user $(VENV)/.kaggle

$(VENV)/.kaggle: $(BIN)/python $(SOURCE)
	$(PIP) --editable '.[kaggle,serve]'
	@touch $@ $(VENV)/.user

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) --editable '.[dev,bench]'
	@touch $@
