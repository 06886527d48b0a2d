# The only door: what CI runs is what people run. `make demo` and `make test` set up everything that they need.

PY := .venv/bin/python
STAMP := .venv/.stamp
# Extra arguments for pytest: make test ARGS="-k vacuum"
ARGS ?=

.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help setup packages demo test check lint format types layers budgets fmt fault bench docs lock sbom clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1	/' | expand -t 10

setup: $(STAMP) ## make .venv with the locked dependencies (PYTHON=... chooses the interpreter)
	@:

$(STAMP): pyproject.toml requirements.lock scripts/bootstrap
	@sh scripts/bootstrap
	@touch $@

packages: ## install the databases and the browser that the tests want (Debian, as root)
	@sh scripts/packages

demo: $(STAMP) ## show the main job on a bloated database that it makes
	@.venv/bin/dbupkeep demo

test: $(STAMP) packages ## run all tests but the long fault tier
	@$(PY) -m pytest -n logical --maxprocesses 8 $(ARGS)

check: lint format types layers budgets ## all that is checked without running the product (-k: go on after a failure)

lint: $(STAMP)
	@.venv/bin/ruff check --quiet .

format: $(STAMP)
	@.venv/bin/ruff format --quiet --check .

types: $(STAMP)
	@.venv/bin/mypy

layers: $(STAMP)
	@.venv/bin/lint-imports | sed -n '/^Contracts$$/,$$p'; exit $${PIPESTATUS[0]}

# Part of `make test` too; here because they judge the shape of the code, and take no second.
budgets: $(STAMP)
	@$(PY) -m pytest -q -p no:randomly tests/docs/test_budgets.py tests/docs/test_imports.py tests/docs/test_texts.py

fmt: $(STAMP) ## format, and fix what ruff can fix
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

fault: $(STAMP) packages ## run the long fault tier: real kills, many of them
	@$(PY) -m pytest -m fault --kills 1000 --timeout 3600 $(ARGS)

bench: $(STAMP) packages ## run the benchmarks, small; ARGS="--size full" for results (wants the sqlite3 command line)
	@$(PY) -m benchmarks $(ARGS)

docs: $(STAMP) ## write the generated pages of docs/, and what the examples print
	@$(PY) docs/generate.py
	@$(PY) docs/examples.py --write README.md docs/tutorial.md docs/how-to/*.md

lock: $(STAMP) ## resolve requirements.lock anew from pyproject.toml (wants uv)
	@sh scripts/lock

sbom: $(STAMP) ## print a bill of materials of an installation, as CycloneDX JSON (ARGS="postgresql otel" adds extras)
	@$(PY) scripts/sbom $(ARGS)

clean: ## remove everything that the tools made
	@rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
