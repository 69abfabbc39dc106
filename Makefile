# make sweep: install and run the pocket sweep.  make test: install and run the tests.  make check: lint, format, types.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep test check bench
sweep: .venv/installed
	$(BIN)/python -m raybridge.sweep sweeps/compression.py

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	for what in train decode evaluate sweep; do $(BIN)/python -m bench $$what || exit 1; done

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
