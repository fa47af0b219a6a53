# One word a task; `make help` lists them.
VENV := .venv
BIN := $(VENV)/bin
AUDIT := .venv-audit
PYTHON ?= python3
ENCODER ?= $(or $(MCM_ENCODER),builtin)
HOST ?= $(or $(MCM_HOST),127.0.0.1)
PORT ?= $(or $(MCM_PORT),8000)
INSTALLED := $(VENV)/.installed

.PHONY: help serve test check format bench audit clean

help:  ## list the tasks
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

serve: $(INSTALLED)  ## start the service (ENCODER=..., HOST=..., PORT=...)
	@MCM_ENCODER='$(ENCODER)' MCM_HOST='$(HOST)' MCM_PORT='$(PORT)' exec $(BIN)/mcm serve

test: $(INSTALLED)  ## run all tests
	$(BIN)/pytest

check: $(INSTALLED)  ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## format the code, and write the README's tables
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.readme

bench: $(INSTALLED)  ## measure everything that is said of quality and speed: an hour of a quiet machine
	$(BIN)/python -m benchmarks.builtin_quality
	$(BIN)/python -m benchmarks.import_time
	$(BIN)/python -m benchmarks.flops
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.published
	$(BIN)/python -m benchmarks.matrix
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.scenarios
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.memory

audit: $(INSTALLED)  ## look all packages up for known vulnerabilities; fails if it cannot
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; }
	$(BIN)/python -m benchmarks.audit $(AUDIT)/bin/pip-audit

clean:  ## remove the environments
	rm -rf $(VENV) $(AUDIT)

# Installed once, and again only when the requirements change.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --editable '.[dev]'
	@touch $@
