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
# one line a job (workflow/snakemake_logger_plugin_anamnesis); Snakemake's own words are in .snakemake/log. --logger takes all
# words up to the next option, so that an option has to follow
SNAKEMAKE := $(BIN)/snakemake --logger anamnesis --cores all
# a plan has no results of its own, and those that are there may be older
PLAN = $(filter -n% -Fn% -fn% -kn% -pn% -qn% --dry-run --dryrun --dag% --rulegraph% --filegraph% --d3dag -l --list% \
  -S --summary -D --detailed-summary --lint% --unlock -t --touch --report% --archive% --delete-% --cleanup-% --print-% \
  --containerize --generate-unit-tests% -h --help -v --version,$(ARGS))
# before Snakemake, which would run the expressions of a configuration that asks for it (SECURITY.md)
CHECK = $(BIN)/python -m anamnesis.commands.check config.yaml $(CONFIG)
TORCH := $(shell grep '^torch==' requirements.lock)
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/gpu.py,$(wildcard benchmarks/*.py))
SNAKEFILES := $(wildcard Snakefile workflow/Snakefile workflow/rules)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run watch docs analyses compare estimate test faults mutants lint bench figures clean-venv

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP) ## compute everything of $(CONFIG), then say where it is and print the headline row
	@$(CHECK)
	$(SNAKEMAKE) $(ARGS) --configfile $(CONFIG)
	@$(if $(PLAN),,$(BIN)/python -m anamnesis.commands.headline config.yaml $(CONFIG))

watch: $(STAMP) ## say how far the run of $(CONFIG) is, line by line: stage, loss, time left, the first table
	@$(BIN)/python -m anamnesis.commands.watch config.yaml $(CONFIG)

analyses: $(STAMP) ## what happens inside the models of $(CONFIG), and why they forget: tables, figures, the report with them
	@$(CHECK)
	$(SNAKEMAKE) analyses $(ARGS) --configfile $(CONFIG)
	$(SNAKEMAKE) $(ARGS) --configfile $(CONFIG)

compare: $(STAMP) ## say what differs between the tables and figures of $(CONFIG) and those in $(REFERENCE)
	@$(BIN)/python -m anamnesis.commands.compare $(REFERENCE) config.yaml $(CONFIG)

estimate: $(STAMP) ## say what $(CONFIG) will cost; ARGS="--device a100-80gb --at-once 4" and others, see ARGS=--help
	@$(BIN)/python -m anamnesis.commands.estimate config.yaml $(CONFIG) $(ARGS)

figures: $(STAMP) ## bring the figures up to date, and what they need
	@$(CHECK)
	$(SNAKEMAKE) figures $(ARGS) --configfile $(CONFIG)

test: $(STAMP) ## run all tests, on two cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

faults: $(STAMP) ## kill, damage and starve whole runs and compare what comes of it: about an hour
	$(BIN)/python -m pytest -q -n 2 -m faults tests/faults $(ARGS)

mutants: $(STAMP) ## put small faults into the modules that numbers come from; every one must fail a test: some 20 minutes
	$(BIN)/python tests/mutants.py $(ARGS)

lint: $(STAMP) ## check style, formatting, the rules and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
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
