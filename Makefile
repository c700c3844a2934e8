# Everything from a fresh machine: `make demo` or `make test`. The environment is made once, in .venv, and
# again when pyproject.toml or constraints.txt change.

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# The first Python >= 3.11 that can make environments; override with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test fix clean

help:
	@echo "make demo   install, corrupt and enhance the MNI152 template, say where the report is"
	@echo "make test   install with the development tools, lint, type-check and test"
	@echo "make fix    format, and repair what the linter can"
	@echo "make clean  remove the environment, caches and the demo"

demo: $(VENV)/installed
	$(BIN)/pellucid demo --out pellucid-demo --force

test: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

fix: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) pellucid-demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "pellucid needs Python 3.11 or newer with venv; name one: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The order-only prerequisite keeps a fresh timestamp of .venv from triggering an installation.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/installed
