# make install | demo | serve | test | test-slow | test-matrix | lint | up | down | docs | lock | audit | sbom
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
SERVER := http://127.0.0.1:4200/api

.PHONY: install demo serve test test-slow test-matrix lint up down docs lock audit sbom clean

install: .venv/installed ## the virtual environment, from the lock

# On Linux, torch of PyPI needs NVIDIA's libraries (some 2 GB) and a build for the CPU ("+cpu") does not; make LOCK=requirements-cuda.lock decides it.
.venv/installed: requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12"'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@lock="$(LOCK)" && : $${lock:=$$($(BIN)/python -m deploy.dependencies choose)} \
	&& echo "Installing from $$lock (a few minutes) ..." \
	&& $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement "$$lock"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## the image classification flow on the embedded sample
	@$(BIN)/verticals run image-classification sample --preset smoke

serve: install ## the newest version of every model that a flow released
	@$(BIN)/verticals serve --grpc_port 8001

# A run that collects no test fails, as pytest says it (exit code 5).
PYTEST = $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test: install ## the fast tests: under 8 minutes on two cores
	@$(PYTEST) -m "not slow and not matrix and not gpu" tests

test-slow: install ## whole flows, workers, kills, browsers, and a tenth of each matrix
	@$(PYTEST) -m "slow and not gpu" tests

test-matrix: install ## every combination, and long fuzzing: an hour or more
	@$(PYTEST) -m "matrix and not gpu" tests

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright

up: install ## a local Prefect server, the deployments and a worker
	@$(BIN)/verticals up

down: ## stop just those
	@$(BIN)/verticals down

# Tools that the lock does not need, in an environment of their own.
TOOLS = .tools/bin
.tools/installed: Makefile
	@test -x $(TOOLS)/python || $(PYTHON) -m venv .tools
	@$(TOOLS)/python -m pip install -qq --disable-pip-version-check uv==0.13.9 pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

lock: .tools/installed ## the lock files after a change of pyproject.toml; UPGRADE=1 takes the newest version of every pin
	@$(PYTHON) -m deploy.dependencies lock --uv $(TOOLS)/uv $(if $(UPGRADE),--upgrade)

audit: .tools/installed ## known vulnerabilities of every pin; SERVICE=osv asks another database
	@$(PYTHON) -m deploy.dependencies audit --pip_audit $(TOOLS)/pip-audit $(if $(SERVICE),--service $(SERVICE))

docs: install ## the documentation, in site/
	@$(BIN)/python -m mkdocs build --quiet --strict

sbom: install .tools/installed ## what is installed, with versions and licences: .verticals/sbom.cdx.json (CycloneDX)
	@mkdir -p .verticals
	@$(TOOLS)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file .verticals/sbom.cdx.json $(BIN)/python
	@echo "The SBOM is .verticals/sbom.cdx.json"

clean: ## forget every artifact
	rm -rf .verticals
