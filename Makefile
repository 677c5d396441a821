# callbridge. `make help` lists what there is.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := .venv/bin

# The first Python that is new enough; `make setup PYTHON=…` takes another.
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3.14 python3,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BOOTSTRAP = $(or $(PYTHON),$(error Python 3.11 or later is needed (Debian, Ubuntu: apt install python3))) .ci/bootstrap.py

# Quick tests first, then those that start a database or a switch, two files at a time; then, one after the other, those
# that break parts of it and watch the clock.
QUICK := bridge tests/unit tests/property
ALONE := tests/chaos
SIDE_BY_SIDE := $(filter-out $(ALONE) tests/unit tests/property tests/fixtures tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))
PYTEST := $(BIN)/pytest --doctest-modules

# The browser phone, built from npm's packages. `make setup PHONE=` goes without where npm reaches none.
PHONE := bridge/web/static/phone.js

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: .venv/.dev $(PHONE) ## .venv and the browser phone, from hash-checked locks

demo: .venv/.run $(PHONE) ## a bridge, a switch and simulated carriers on this machine, and calls through them
	@$(BIN)/callbridge demo

check: still ## format, lint, types, imports, SQL, dialplan, unit and property tests: under a minute
	$(PYTEST) -n 2 --dist loadfile $(QUICK)

test: still ## the same, and everything on real Postgres and real Asterisk: under ten minutes
	@$(BIN)/python -m bridge.sandbox.chromium
	$(PYTEST) -n 2 --dist loadfile $(QUICK) $(SIDE_BY_SIDE)
	$(PYTEST) $(ALONE)

still: .venv/.dev $(PHONE)
	$(BIN)/ruff format --check --output-format concise . || { echo "make format puts that right"; exit 1; }
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/sqlfluff lint --disable-progress-bar sql/queries $(wildcard sql/examples)
	$(BIN)/python .ci/dialplan.py asterisk-conf/extensions.conf

openapi: .venv/.run ## docs/openapi.json and the collection, as the routes are now
	$(BIN)/callbridge openapi > docs/openapi.json
	$(BIN)/callbridge openapi --collection > docs/callbridge.postman_collection.json

fuzz: .venv/.dev ## schemathesis over the whole API, for FUZZ_S=300 seconds
	FUZZ_S=$(or $(FUZZ_S),300) $(BIN)/pytest -q tests/api/test_fuzz.py

bench: .venv/.run ## calls a second, and how long a decision takes
	@$(BIN)/callbridge bench

format: .venv/.dev ## put the Python files into shape
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

# No address goes into a lock: packages come from wherever this machine's pip is told to look, and must match.
LOCK = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(if $(UPGRADE),--upgrade) pyproject.toml --extra sandbox --group build
lock: ## pin what pyproject.toml asks for; UPGRADE=1 takes the newest
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	$(LOCK) --group dev --output-file .ci/requirements-dev.txt
	$(LOCK) --constraint .ci/requirements-dev.txt --output-file .ci/requirements.txt

clean: ## remove all that was made, .venv included
	rm -rf .venv build dist bridge/web/static .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.run: .ci/requirements.txt pyproject.toml .ci/bootstrap.py $(if $(wildcard $(BIN)/python),,GONE)
	@$(BOOTSTRAP) run
	@touch $@

.venv/.dev: .ci/requirements-dev.txt .venv/.run
	@$(BOOTSTRAP) dev
	@touch $@

bridge/web/static/phone.js: $(wildcard bridge/web/phone/*) .ci/phone.py .venv/.run
	@$(BIN)/python .ci/phone.py

.PHONY: help setup demo check test still openapi fuzz bench format lock clean GONE
