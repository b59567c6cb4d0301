# SPDX-License-Identifier: Apache-2.0
# Everything a developer does here, each step skipped when it is up to date. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help

# The first Python that is new enough. The distribution's own comes first, because the frozen agent is linked against its
# libpython; version-manager shims are not asked, because what they run depends on the directory they are run in.
PYTHON ?= $(shell for p in /usr/bin/python3 /usr/bin/python3.1{3,2,1} /usr/local/bin/python3.1{3,2,1} /usr/local/bin/python3; do \
	[ -x $$p ] && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done; true)
PY := .venv/bin/python
PIP := $(PY) -m pip --quiet --quiet --disable-pip-version-check --no-input

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

.PHONY: venv
venv: .venv/.installed  ## make .venv from requirements-dev.txt, this checkout installed in it

.venv/.locked: requirements-dev.txt
	@[ -n "$(PYTHON)" ] || { echo "no Python >= 3.11 in /usr/bin or /usr/local/bin; name one: make venv PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "venv: $$($(PYTHON) --version) from $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

.venv/.installed: .venv/.locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lock
lock: .venv/.locked  ## resolve pyproject.toml anew into the three requirements files; UPGRADE=1 takes newer versions
	@for part in agent fleet dev; do \
		[ $$part = agent ] && extra= || extra="--extra $$part"; \
		.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) \
			$$extra pyproject.toml --output-file requirements-$$part.txt; \
	done
