PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test check docs bench tables clean
setup: .venv/installed

# The constraints pin torch for development; users get the range in pyproject.toml.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/partialsym demo --out demo

test: setup
	$(BIN)/python -m pytest -n 2

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --doctest-modules --doctest-glob='*.md' partialsym README.md docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The site, into build/site.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

# Rebuilds every table and figure from results/.
tables: setup
	for folder in results/*/; do \
		name=$$(basename $$folder); \
		test $$name = departures || $(BIN)/partialsym table $$name --out results/$$name || exit 1; \
	done
	$(BIN)/python -m benchmarks.reproduction

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
