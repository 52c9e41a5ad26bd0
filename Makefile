# Everything runs in .venv; each target installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

.PHONY: install run test slow faults acceptance lint lock reference clean

install: $(VENV)/.installed

run: install
	$(BIN)/cacheserver serve $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

# The long runs that "test" leaves out: every origin fault with full-size pieces.
slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow $(ARGS)

# Every row of docs/reliability.md in full size, one table, about an hour; as root, or rows that mount are not measured.
faults: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults $(ARGS)

# Real programs (curl, wget, aria2c, Chromium, pip, apt-get) through the node; gets about 150 MB of packages once.
acceptance: $(VENV)/.installed-test
	$(BIN)/python -m tests.acceptance.real_clients --output docs/real-clients.md $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_sizes.py

# Writes the generated pages.
reference: $(VENV)/.installed-test
	$(BIN)/python -m cacheserver reference --write

# Needs uv; every entry carries the digests of its files.
LOCK = uv pip compile pyproject.toml --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
	--no-emit-find-links --universal --python-version 3.11
lock:
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra test --output-file requirements-test.lock

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python requirements.lock pyproject.toml $(shell find cacheserver -name '*.py' -o -name '*.toml')
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps .
	rm -f $(VENV)/.installed-test
	touch $@

# The tests run against the checkout itself.
$(VENV)/.installed-test: $(BIN)/python requirements-test.lock pyproject.toml
	$(PIP) --require-hashes -r requirements-test.lock
	$(PIP) --no-deps --editable .
	rm -f $(VENV)/.installed
	touch $@
