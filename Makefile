# SPDX-License-Identifier: Apache-2.0
# Everything a developer does here, each step skipped when it is up to date. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The first Python that is new enough. The distribution's own comes first, because the frozen agent is linked against its
# libpython; version-manager shims are not asked, because what they run depends on the directory they are run in.
PYTHON ?= $(shell for p in /usr/bin/python3 /usr/bin/python3.1{3,2,1} /usr/local/bin/python3.1{3,2,1} /usr/local/bin/python3; do \
	[ -x $$p ] && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done; true)
PY := .venv/bin/python
PYTEST := $(PY) -m pytest --quiet
PIP := $(PY) -m pip --quiet --quiet --disable-pip-version-check --no-input

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

.PHONY: system
system:  ## install the system packages that building and testing need (Debian, Ubuntu; as root)
	@.ci/system "$(PYTHON)"

.PHONY: venv
venv: .venv/.installed  ## make .venv from requirements-dev.txt, this checkout installed in it

.venv/.locked: requirements-dev.txt
	@[ -n "$(PYTHON)" ] || { echo "no Python >= 3.11 in /usr/bin or /usr/local/bin; name one: make venv PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "venv: $$($(PYTHON) --version) from $(PYTHON)"
	@# Cleared, so that nothing is there that is not in the lock.
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

.venv/.installed: .venv/.locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lock
lock: .venv/.locked  ## resolve pyproject.toml anew into the three requirements files; UPGRADE=1 takes newer versions
	@mkdir -p build; for part in agent fleet dev; do \
		cp -p requirements-$$part.txt build/lock; \
		[ $$part = agent ] && extra= || extra="--extra $$part"; \
		.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) \
			$$extra pyproject.toml --output-file requirements-$$part.txt; \
		cmp --silent build/lock requirements-$$part.txt && mv build/lock requirements-$$part.txt || true; \
	done

.PHONY: bpf
bpf:  ## compile the kernel half
	@$(MAKE) --silent -C bpf

# Every input is watched, so the file is rebuilt when one of them changed. The two variables make the bytes depend on the
# inputs alone: without the first they carry the time of the build, without the second the order of Python's sets.
.PHONY: agent
agent: venv bpf  ## freeze the agent into one file: dist/fleet-agent
	@$(MAKE) dist/fleet-agent dist/.manuals

dist/fleet-agent: build.spec requirements-agent.txt requirements-dev.txt $(shell find agent -type f ! -name '*.pyc') $(wildcard bpf/*.bpf.o)
	@echo "agent: building $@"
	@rm -rf build/pyinstaller
	@SOURCE_DATE_EPOCH=315532800 PYTHONHASHSEED=0 PYINSTALLER_CONFIG_DIR=build/pyinstaller-cache PYI_LOG_LEVEL=WARN \
		$(PY) -m PyInstaller --noconfirm \
		--distpath build/pyinstaller/dist --workpath build/pyinstaller/work build.spec
	@mkdir -p dist && mv -f build/pyinstaller/dist/fleet-agent $@

# Written from the command line itself, so that they cannot differ from it; the marker is as new as they are.
.PHONY: manuals
manuals: dist/.manuals  ## write the agent's manual pages and completion: dist/man, dist/completion

dist/.manuals: .venv/.installed $(shell find agent -type f -name '*.py')
	@rm -rf dist/man dist/completion
	@$(PY) agent/packaging/manuals.py dist
	@touch $@

.PHONY: demo
demo: system agent  ## show it at work: a collector, this machine and two lab hosts (as root)
	@$(PY) -m tests.lab.demo

.PHONY: bench
bench: system agent  ## measure, print one table, keep it in tests/bench/RESULTS.md
	@$(PY) -m tests.bench

.PHONY: lint
lint: venv  ## check style, types, imports and the kernel half
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet . || { echo "lint: run '$(PY) -m ruff format' over the files above" >&2; exit 1; }
	@$(PY) -m mypy --no-error-summary agent reports fleet tests
	@mkdir -p build
	@.venv/bin/lint-imports --config pyproject.toml >build/imports.txt || { cat build/imports.txt; exit 1; }
	@$(MAKE) --silent -C bpf check

# Fast tests fail first. What loads programs into the kernel or builds hosts out of namespaces runs alone and last. A phase that
# fails does not hide the next one; the last line counts all of them and decides.
.PHONY: test
test: system venv bpf lint  ## run everything: lint, fast tests, the frozen agent, slow tests, kernel and lab
	@rm -rf build/tests && mkdir -p build/tests
	@failed=0; \
	phase() { \
		$(PYTEST) --junit-xml=build/tests/$$1.xml -m "$$2" "$${@:3}" || [ $$? -eq 5 ] || failed=1; \
	}; \
	phase fast 'not (slow or frozen or kernel or lab)' -n 2; \
	$(MAKE) agent || failed=1; \
	phase slow '(slow or frozen) and not (kernel or lab)' -n 2; \
	phase last 'kernel or lab'; \
	$(PY) tests/tally.py build/tests/{fast,slow,last}.xml || failed=1; \
	exit $$failed

.PHONY: clean
clean:  ## remove what was built; .venv stays
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@$(MAKE) --silent -C bpf clean
