# Every target sets up .venv first (once): Python 3.11-3.13 and a C++ compiler are all that it asks of the machine.
#   PYTHON=python3.12   interpreter         RANKS=4   MPI ranks of the demo
#   STUDY=... OUT=...   another study       ARGS=...  more arguments for pytest
#   JOBS=2   tests side by side
STUDY ?= examples/silicon_vacancy/study.yaml
OUT ?= demo
RANKS ?= 2
ARGS ?=
JOBS ?= 2

BIN := .venv/bin
# The environment's own programs first (its mpiexec above all), and one BLAS thread per rank: more make GPAW slower.
RUN = env PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-faults bench docs lint clean

help:
	@echo 'make demo        a silicon vacancy, GPAW in a crystal that LAMMPS drives; table and figures in $(OUT)/'
	@echo 'make test        the test suite'
	@echo 'make test-slow   the tests that take minutes each'
	@echo 'make test-faults 100 SIGKILLs and other faults, runs gone on with and compared (ARGS="--kills 12": fewer)'
	@echo 'make bench       the speed and memory figures of tests/benchmarks'
	@echo 'make docs        the documentation, docs/_build/html'
	@echo 'make lint        ruff'
	@echo 'make clean       removes .venv and everything that was generated'

setup:
	@PYTHON="$(PYTHON)" bash .config/setup.sh

demo: setup
	@$(RUN) $(BIN)/mpiexec -n $(RANKS) $(BIN)/solidqmmm run $(STUDY) --out $(OUT)

test: setup
	@$(RUN) $(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile $(ARGS)

test-slow: setup
	@$(RUN) $(BIN)/python -m pytest -m slow $(ARGS)

test-faults: setup
	@$(RUN) $(BIN)/python tests/faults/run.py $(ARGS)

bench: setup
	@$(RUN) $(BIN)/python tests/benchmarks/run.py

docs:
	@PYTHON="$(PYTHON)" bash .config/setup.sh docs
	@$(RUN) $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

lint: setup
	@$(BIN)/ruff check

clean:
	rm -rf .venv $(OUT) docs/_build build dist .pytest_cache .ruff_cache *.egg-info
	find solidqmmm recipes tests -name __pycache__ -type d -prune -exec rm -rf {} +
