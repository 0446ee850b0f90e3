# Every target sets up .venv from requirements.lock the first time, and again when the lock changes.
#
#   PYTHON   interpreter the environment is made with, 3.11 or newer
#   CONFIG   configuration files, later ones on top of earlier ones
#   ARGS     further options: of snakemake for run, analyses and figures, of pytest for test, modules for mutants
#   REFERENCE  folder of CSV files that compare compares with
#
# A computer without a GPU may save the download of CUDA by pointing pip at CPU builds of torch (PIP_EXTRA_INDEX_URL).

PYTHON ?= python3
CONFIG ?= config.yaml
ARGS ?=
REFERENCE ?= workflow/reference/default

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ANAMNESIS := $(BIN)/python -m anamnesis.commands
TORCH := $(shell grep '^torch==' requirements.lock)
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/gpu.py,$(wildcard benchmarks/*.py))
SNAKEFILES := $(wildcard Snakefile workflow/Snakefile workflow/rules)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run watch docs analyses compare estimate test faults mutants versions lint bench figures clean-venv

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP) ## compute everything of $(CONFIG), then say where it is and print the headline row
	@$(ANAMNESIS) run $(CONFIG) $(ARGS)

watch: $(STAMP) ## say how far the run of $(CONFIG) is, line by line: stage, loss, time left, the first table
	@$(ANAMNESIS) watch $(CONFIG)

analyses: $(STAMP) ## what happens inside the models of $(CONFIG), and why they forget: tables, figures, the report with them
	@$(ANAMNESIS) run $(CONFIG) analyses $(ARGS)
	@$(ANAMNESIS) run $(CONFIG) $(ARGS)

compare: $(STAMP) ## say what differs between the tables and figures of $(CONFIG) and those in $(REFERENCE)
	@$(ANAMNESIS) compare $(REFERENCE) $(CONFIG)

estimate: $(STAMP) ## say what $(CONFIG) will cost; ARGS="--device a100-80gb --at-once 4" and others, see ARGS=--help
	@$(ANAMNESIS) estimate $(CONFIG) $(ARGS)

figures: $(STAMP) ## bring the figures up to date, and what they need
	@$(ANAMNESIS) run $(CONFIG) figures $(ARGS)

test: $(STAMP) ## run all tests, on two cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

faults: $(STAMP) ## kill, damage and starve whole runs and compare what comes of it: about an hour
	$(BIN)/python -m pytest -q -n 2 -m faults tests/faults $(ARGS)

mutants: $(STAMP) ## put small faults into the modules that numbers come from; every one must fail a test: some 20 minutes
	$(BIN)/python tests/mutants.py $(ARGS)

versions: ## run the tests of the library with the packages that are ARGS=oldest or ARGS=newest of what is allowed
	$(PYTHON) tests/versions.py $(ARGS)

lint: $(STAMP) ## check style, formatting, types, the rules and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/snakemake --lint
	PYTHONPATH=workflow $(BIN)/lint-imports --no-cache

docs: $(STAMP) ## build the documentation as a site in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=workflow $(BIN)/mkdocs build --strict --quiet

bench: $(STAMP) ## run every benchmark, one after the other
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script $(ARGS); done

clean-venv: ## remove the environment; results stay
	rm -rf $(VENV)

# torch comes first, so that the build already chosen for this computer satisfies the lock.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "PYTHON=$(PYTHON) is older than 3.11: set PYTHON to a newer interpreter" >&2; exit 1; }
	@echo "installing the packages of requirements.lock in $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@
