# Everything runs in .venv; each target installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

.PHONY: install run test slow faults security sbom audit acceptance acceptance-system image lint lock reference clean
.PHONY: install-system uninstall-system wheels

install: $(VENV)/.installed

run: install
	$(BIN)/cacheserver serve --config "" $(ARGS)

# A file of tests stays with one of the processes, of which there is one for each core.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

# The long runs that "test" leaves out: every origin fault with full-size pieces.
slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow $(ARGS)

# Every row of docs/reliability.md in full size, one table, about two hours; as root, or rows that mount are not measured.
faults: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults $(ARGS)

# Every attack of docs/security.md in its full size, against nodes on loopback; one table, under an hour.
security: $(VENV)/.installed-test
	$(BIN)/python -m tests.security $(ARGS)

# Bill of materials (CycloneDX 1.6) of requirements.lock, on standard output or in the file that OUT names.
sbom: $(BIN)/python
	@$(BIN)/python -m tools.sbom $(if $(OUT),> $(OUT))

# Known weaknesses of the locked packages; asks the package index, so it needs a network.
AUDIT := build/audit/bin
audit:
	$(PYTHON) -m venv build/audit
	$(AUDIT)/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(AUDIT)/pip-audit --disable-pip --require-hashes -r requirements.lock -r requirements-build.lock $(ARGS)

# Real programs (curl, wget, aria2c, Chromium, pip, apt-get) through the node; gets about 150 MB of packages once.
acceptance: $(VENV)/.installed-test
	$(BIN)/python -m tests.acceptance.real_clients --output docs/real-clients.md $(ARGS)

# A clean Debian 12 that boots in a container of its own (systemd-nspawn), the node installed in it, and all that
# docs/install.md promises; root, about a minute, packages from the machine's mirrors.
acceptance-system: $(VENV)/.installed-test
	$(BIN)/python -m tests.acceptance.booted $(ARGS)

# The image built and run by buildah, on a base made here; root.
image: $(VENV)/.installed-test
	$(BIN)/python -m tests.acceptance.image $(ARGS)

# A node under systemd on this machine, as root; again to upgrade. ARGS="--sockets", see ./install.sh --help.
install-system:
	./install.sh install $(ARGS)

uninstall-system:
	./install.sh uninstall $(ARGS)

# Packages for a machine without a network, of the same kind as this one: ./install.sh --wheels wheels
wheels: $(BIN)/python
	$(BIN)/python -m pip download --quiet --require-hashes --only-binary :all: --dest wheels -r requirements.lock
	$(BIN)/python -m pip download --quiet --require-hashes --only-binary :all: --dest wheels -r requirements-build.lock

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_sizes.py

# Writes the generated pages.
reference: $(VENV)/.installed-test
	$(BIN)/python -m tools.reference --write

# Needs uv; every entry carries the digests of its files.
LOCK_FLAGS = --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --universal \
	--python-version 3.11
LOCK = uv pip compile pyproject.toml $(LOCK_FLAGS)
BUILD_LOCK = python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
	| uv pip compile - $(LOCK_FLAGS)
lock:
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra test --output-file requirements-test.lock
	$(BUILD_LOCK) --output-file requirements-build.lock

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python requirements.lock pyproject.toml $(shell find cacheserver -type f ! -name '*.pyc')
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
