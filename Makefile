# Verbs. Each sets up .venv from a lock file when it has to; Python 3.11 or later is all a machine needs.
export CB_VENV ?= .venv
BIN := $(CB_VENV)/bin
PROSE := README.md CONTRIBUTING.md ARCHITECTURE.md SECURITY.md docs config mkdocs.yml Makefile setup.cfg \
	cb servicekit gateway portfolio marketdata scripts benchmarks tests
LOCK := uv pip compile setup.cfg --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
# Without the garbage collector: finalizers of ours that it runs within mutmut's own bookkeeping would crash CPython 3.11.
MUTMUT := .mutmut/bin/python -c 'import gc; gc.disable(); from mutmut.__main__ import cli; cli()'
.DEFAULT_GOAL := help

.PHONY: help build dev run-all run-market-data run-portfolio run-gateway stop-all demo test busy quiet lint prove chaos contract openapi docs soak nightly mutate check \
	bench load scale screenshots dist versions audit clean lock

help: ## list the verbs
	@sed -n 's/^\([a-z -]*\):[a-z ]*## /make \1: /p' Makefile

build: ## make .venv with what the platform needs
	@scripts/build.sh demo

dev: ## make .venv with what the tests and checks need too
	@scripts/build.sh dev

run-all: build ## start the three services in the background and wait until they are healthy
	@$(BIN)/python -m scripts start

run-market-data run-portfolio run-gateway: build ## start one of them
	@$(BIN)/python -m scripts start $(@:run-%=%)

stop-all: build ## stop what was started, and leave nothing behind
	@$(BIN)/python -m scripts stop

demo: build ## play the walk-through, on the running services or on its own; RECORD=DIR leaves pictures (after make dev)
	@$(BIN)/python -m scripts demo $(if $(RECORD),--record $(RECORD))

test: dev ## run the tests
	@$(MAKE) --no-print-directory busy && $(MAKE) --no-print-directory quiet

busy: dev # three on two cores: many wait for something
	@$(BIN)/python -m pytest -n 3 -m "not quiet and not nightly"

quiet: dev # exit code 5: a choice of tests has none of them
	@$(BIN)/python -m pytest -n 2 -m "quiet and not nightly" || [ $$? = 5 ]

lint: dev ## look at style, types, imports and English
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/shellcheck start-demo.sh scripts/build.sh .ci/run
	@$(BIN)/mypy && $(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/codespell --dictionary=- --dictionary=.ci/words.txt $(PROSE)

prove: dev ## the long proofs: 200,000 steps of the model, turmoil, the fleet, the protocol (needs spin and gcc)
	@$(BIN)/python -m pytest -q -s tests/unit/test_model.py --hypothesis-profile=prove && $(BIN)/python -m tests.proofs.turmoil 60
	@$(BIN)/python -m tests.proofs.fleet && $(BIN)/python -m tests.proofs.protocol.check

chaos: dev ## kill, cut and delay for a minute on each database, then plant six bugs that must be found
	@$(BIN)/python -m tests.proofs.chaos --database sqlite && $(BIN)/python -m tests.proofs.chaos --database postgresql
	@$(BIN)/python -m tests.proofs.chaos --bugs

contract: dev ## try the contract of the three services, with a thousand requests for each operation
	@$(BIN)/python -m tests.proofs.contract --max-examples 1000

openapi: dev ## write the contract into docs/openapi
	@$(BIN)/python -m tests.proofs.contract write

docs: dev ## draw the states as the code has them, and build the site of the documentation in build/site
	@$(BIN)/python -m scripts.docs && NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

soak: dev ## full traffic for MINUTES=3 while dependencies fail, workers are replaced and killed: nothing may grow or go back
	@$(BIN)/python -m tests.proofs.soak --minutes $(or $(MINUTES),3)

versions: dev ## try the extras of the library with the lowest and the newest versions, and write docs/versions.md
	@$(BIN)/python -m tests.support.versions

nightly: dev prove chaos contract soak load ## the long proofs and tests
	@$(BIN)/python -m pytest -n 2 -m nightly

mutate: dev ## change the state machine in hundreds of small ways, and list those that no test notices
	@[ -x .mutmut/bin/mutmut ] || { python3 -m venv .mutmut && .mutmut/bin/pip install -q --require-hashes -r requirements-dev.lock && .mutmut/bin/pip install -q mutmut==3.8.1; }
	@$(MUTMUT) run --max-children 1 && .mutmut/bin/mutmut results

audit: ## ask PyPI for known vulnerabilities of all that is pinned, and write the lists of parts (SBOM) to build/
	@[ -x .audit/bin/pip-audit ] || { python3 -m venv .audit && .audit/bin/pip install -q --require-hashes -r requirements-audit.lock; }
	@mkdir -p build && for lock in requirements requirements-dev; do \
		.audit/bin/cyclonedx-py requirements $$lock.lock --output-reproducible -o build/$$lock.cdx.json || exit; done
	@for lock in requirements requirements-dev; do .audit/bin/pip-audit --strict --require-hashes --disable-pip -r $$lock.lock || exit; done

check: dev ## all that CI runs
	@$(MAKE) --no-print-directory --jobs=2 lint busy && $(MAKE) --no-print-directory quiet

dist: dev ## build sdist and wheel into dist/, and check them
	@rm -rf dist && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build
	@$(BIN)/twine check --strict dist/* && $(BIN)/check-wheel-contents dist/*.whl

bench: dev ## measure the cost of a call against other libraries
	@$(BIN)/python -m benchmarks

load: dev ## measure what the platform sustains (needs wrk, and strace for the share of fsync)
	@$(BIN)/python -m benchmarks.load

scale: dev ## measure what up to 500 hosts cost the server that they share
	@$(BIN)/python -m benchmarks.scale

screenshots: dev ## take the pictures of the live page that the README shows (needs chromium)
	@$(BIN)/python -m tests.support.screenshots

clean: ## remove all that was made, after stopping it
	@if [ -x $(BIN)/python ] && [ -d run ]; then $(BIN)/python -m scripts stop; fi
	@rm -rf $(CB_VENV) .audit .ci/newman/node_modules .mutmut mutants run build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache && find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: ## choose new versions of all dependencies (needs uv)
	@$(LOCK) --extra dev -o requirements-dev.lock
	@$(LOCK) --extra platform -c requirements-dev.lock -o requirements.lock
	@$(LOCK) --extra audit -o requirements-audit.lock
