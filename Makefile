# Every target does its own set-up: a machine with Python 3.11 or newer, its venv module and make is enough.
.DEFAULT_GOAL := help
.PHONY: help demo test chaos production image-test check bench histories requirements client docs clean
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin

help:
	@echo "make demo          a whole Nebulous in a temporary folder: two minutes"
	@echo "make test          all tests; those with a real Docker Engine need root (see .ci/docker.sh)"
	@echo "make chaos         containers while everything is killed; SEED= replays one, LIVES= makes it longer"
	@echo "make production    Temporal on PostgreSQL and the rest of docker-compose.yml, where these programs are"
	@echo "make image-test    build the image and run it; as root, with Docker and debootstrap"
	@echo "make check         format, lint, types, layers, shell, papers"
	@echo "make bench         measures, as ratios to what one would run instead"
	@echo "make histories     record the workflow histories that tests replay"
	@echo "make requirements  pin the dependencies of pyproject.toml again"
	@echo "make client        make the blocking client of the asynchronous one"
	@echo "make docs          write the generated pages"
	@echo "make clean         remove everything made here, $(VENV) included"

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

test: $(VENV)/installed
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Without a SEED each run is another one; it is printed, and replays the same plan of actions, kills and faults.
LIVES := 600
chaos: $(VENV)/installed
	NEBU_TEST_REQUIRE_DOCKER=1 NEBU_CHAOS_SEED=$(SEED) NEBU_CHAOS_LIVES=$(LIVES) $(BIN)/pytest -s tests/chaos/test_campaign.py

production: $(VENV)/installed
	NEBU_TEST_REQUIRE_PRODUCTION=1 $(BIN)/pytest tests/production --ignore tests/production/test_image.py

image-test: $(VENV)/installed
	mkdir -p build
	NEBU_TEST_BASE=$(CURDIR)/build/base.tar NEBU_TEST_REQUIRE_DOCKER=1 $(BIN)/pytest tests/production/test_image.py

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python .ci/papers.py
	$(BIN)/python .ci/audit.py
	@if command -v shellcheck >/dev/null; then shellcheck remote_install.sh .ci/run .ci/*.sh activities/runtimes/machine/*.sh; \
	else echo "shellcheck is not installed: shell files are unchecked"; fi

bench: $(VENV)/installed
	$(BIN)/python -m bench.run

histories: $(VENV)/installed
	$(BIN)/python -m tests.record_histories

client: $(VENV)/installed
	$(BIN)/python -m nebulous.client.build

docs: $(VENV)/installed
	$(BIN)/python -m nebulous.reference docs

# Without names of hosts: where packages come from is the machine's matter, what they are is ours.
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
requirements: $(VENV)/installed
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --group dev --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first that runs and is new enough: a name alone may be a shim without an interpreter behind it.
FIND_PYTHON := for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$name; break; fi; done

$(VENV)/packages: requirements-dev.txt
	@$(FIND_PYTHON); if [ -z "$$python" ]; then \
	echo "Nebulous needs Python 3.11 or newer, and no python3, python3.14 … python3.11 here is that: install one" >&2; exit 1; fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	echo "$$python has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; fi; \
	echo "$$python -m venv $(VENV)"; $$python -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	@touch $@

$(VENV)/installed: $(VENV)/packages pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@
