PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup browser demo test test-slow fuzz check docs bench tables reproduce-cpu reproduce-gpu clean
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
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What takes minutes: the figures are in docs/reliability.md.
test-slow: setup
	$(BIN)/python -m pytest -m long -n 2 --dist loadfile

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

# The queues of docs/reproduction.md. Called again they skip what is published and resume what was begun. A run that fails
# (exit status 1) does not keep the rest, a signal stops them. A CPU of two cores needs days, a GPU weeks; where that has
# a torch of its own, say BIN=its/bin. Rows of sectors with priors are left as they are: docs/reproduction.md.
RUNS := runs
PUBLISH := results
NEXT := || test $$? -eq 1
REPRODUCE = $(BIN)/partialsym reproduce --out $(RUNS) --publish $(PUBLISH)
reproduce-cpu: setup
	$(REPRODUCE) mnist6 $(NEXT)
	$(REPRODUCE) mnist6_resplit $(NEXT)
	$(REPRODUCE) table2 --rows T2/plain/rotMNIST,SE2-4/full/rotMNIST,SE2-4/partial/rotMNIST $(NEXT)
	$(REPRODUCE) table2 --rows T2/plain/CIFAR-10,SE2-4/full/CIFAR-10,SE2-4/partial/CIFAR-10 --budget compact $(NEXT)
	$(BIN)/python -m studies.controls --out $(RUNS) --publish $(PUBLISH)/controls $(NEXT)
	$(REPRODUCE) table2 --rows 'T2/plain+*/CIFAR-10,SE2-4/partial+long/CIFAR-10,T2/Aug*/CIFAR-10,*+augmented/CIFAR-10' --budget compact --seeds 0 $(NEXT)
	$(REPRODUCE) table2 --rows 'E2-8/*/CIFAR-10,SE2-4/partial+gresnet18/CIFAR-10' --budget compact --seeds 0 $(NEXT)
	$(REPRODUCE) table2 --rows T2/plain/CIFAR-100,SE2-4/full/CIFAR-100,SE2-4/partial/CIFAR-100 --budget compact --seeds 0,1 $(NEXT)
	$(REPRODUCE) table2 --rows 'SE2-8/full/rotMNIST,E2-8/full/rotMNIST,*/rotMNIST/width-16' --seeds 0 $(NEXT)
	$(REPRODUCE) data_efficiency --rows '*/rotMNIST/125,*/rotMNIST/250,*/rotMNIST/500,*/rotMNIST/1000' $(NEXT)
	$(REPRODUCE) table2 --rows SE2-8/partial/rotMNIST,E2-8/partial/rotMNIST --seeds 0 $(NEXT)
	$(REPRODUCE) data_efficiency --rows '*/CIFAR-10/4500' --seeds 0 $(NEXT)
	$(REPRODUCE) table5 --rows '*/width-16,*/width-32' --seeds 0 $(NEXT)
	$(BIN)/python -m studies.departures --out $(RUNS) --publish $(PUBLISH)/departures $(NEXT)
	$(REPRODUCE) sectors --rows 'T2/*,SE2-8/full/*,*+free/*' $(NEXT)
	$(REPRODUCE) kernels $(NEXT)
	$(REPRODUCE) monotonic $(NEXT)

reproduce-gpu:
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("torch finds no GPU")'
	$(REPRODUCE) table2 --rows '*/rotMNIST' --budget paper $(NEXT)
	$(REPRODUCE) table2 --rows '*/CIFAR-*' --budget medium $(NEXT)
	$(REPRODUCE) table5 --rows '*/rotMNIST,*/CIFAR-10,*/CIFAR-100' --budget paper $(NEXT)
	$(REPRODUCE) table2 --rows '*/CIFAR-*' --budget paper $(NEXT)
	$(REPRODUCE) mnist6 --budget paper $(NEXT)
	$(REPRODUCE) data_efficiency $(NEXT)

# Rebuilds every table and figure, and the numbers of sentences, from results/ and benchmarks/.
tables: setup
	for folder in results/*/; do \
		name=$$(basename $$folder); \
		test ! -e partialsym/reproduction/tables/$$name.yaml || $(BIN)/partialsym table $$name --out results/$$name || exit 1; \
	done
	$(BIN)/python -m studies.reproduction
	$(BIN)/python -m studies.claim
	$(BIN)/python -m studies.controls --table
	$(BIN)/python -m studies.identifiability
	$(BIN)/python -m studies.verdict_simulation
	$(BIN)/python -m studies.visibility
	$(BIN)/python -m studies.answers
	$(BIN)/python -m studies.yardstick
	$(BIN)/python -m studies.lifting --table
	$(BIN)/python -m benchmarks.turned_filters
	$(BIN)/python -m benchmarks.tables
	$(BIN)/python -m studies.numbers

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
