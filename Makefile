PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup browser demo test test-slow fuzz check docs bench tables clean
setup: .venv/installed

# The constraints pin torch for development; users get the range in pyproject.toml.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/partialsym demo --out demo

# Debian's Chromium, for the tests of pages: these are skipped, and say so, where it is not.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
		echo "no chromium: tests of pages will be skipped"

test: setup browser
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What takes minutes: the figures are in docs/reliability.md.
test-slow: setup
	$(BIN)/python -m pytest -m long -n 2 --dist loadgroup

# A minute's made-up files for every reader.
fuzz: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m fuzzing --seconds 7

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
		test $$name = departures || test $$name = identifiability || $(BIN)/partialsym table $$name --out results/$$name || exit 1; \
	done
	$(BIN)/python -m benchmarks.reproduction
	$(BIN)/python -m benchmarks.identifiability

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
