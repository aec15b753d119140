# Each target sets up its own virtual environment when it is missing or stale.
#   make demo    the whole campaign on the embedded starter set
#   make test    lint, types, architecture, tests, coverage
#   make soak    the long proofs        make bench   the measurements        make clean   remove what these leave

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install -c constraints.txt
# a moved folder or another Python makes the environment stale, and pip cannot mend that
HOME_OF_VENV := $(CURDIR) $(shell $(PYTHON) --version 2>&1)
FRESH := $(if $(filter-out $(HOME_OF_VENV),$(shell cat $(VENV)/.made-for 2>/dev/null || echo none)),force)
# files in their order: the longest are not the smallest, which xdist would leave for the end
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint style types suite format soak bench starter-set clean constraints force

demo: $(VENV)/.core
	@$(BIN)/elemscreen demo

# types beside the tests: the checker has one process, and without its cache it takes a minute
test: style
	@$(MAKE) --no-print-directory --jobs 2 types suite

suite: $(VENV)/.dev
	@$(PYTEST) -m "not soak" --cov --cov-report=term

lint: style types

style: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "formatting differs: run 'make format'"; exit 1; }
	@$(BIN)/lint-imports

types: $(VENV)/.dev
	@$(BIN)/mypy

format: $(VENV)/.dev
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

soak: $(VENV)/.dev
	@mkdir -p build && rm -f build/reliability.jsonl
	@ELEMSCREEN_RELIABILITY=$(CURDIR)/build/reliability.jsonl $(BIN)/python -m pytest -m soak --timeout=0; \
		status=$$?; $(BIN)/python -m benchmarks.reliability build/reliability.jsonl; exit $$status

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.run

# two to four core-hours; goes on where it was
starter-set: $(VENV)/.dev
	@$(PIP) --editable '.[selfbuilt]'
	@$(BIN)/elemscreen starter-set --out tasks/sources/starter

clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* build dist \
		elemscreen.egg-info

$(VENV)/.made-for: $(FRESH)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "elemscreen needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV)
	@echo "$(HOME_OF_VENV)" > $@

$(VENV)/.core: pyproject.toml constraints.txt $(VENV)/.made-for
	@echo "Installing elemscreen into $(VENV) (one to three minutes the first time) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.made-for
	@echo "Installing elemscreen and its development tools into $(VENV) (one to three minutes the first time) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.core

# resolve everything afresh; dask follows what dask-cuda allows
constraints:
	@rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	@build/resolve/bin/python -m pip -qq install 'dask==2026.7.1' 'distributed==2026.7.1' --editable '.[dev,selfbuilt,optimade]'
	@{ sed -n '/^#/p' constraints.txt; { build/resolve/bin/python -m pip freeze --exclude-editable | \
		sed -E 's/\+[a-z0-9.]+$$//' | grep -vE '^(nvidia-(cu|nc|nv)|triton|cuda-)'; \
		echo dask-cuda==26.10.0; echo rapids-dask-dependency==26.10.0; } | sort -f; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
