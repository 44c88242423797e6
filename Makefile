# make install | demo | serve | test | test-slow | test-matrix | lint | up | down | lock
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
SERVER := http://127.0.0.1:4200/api

.PHONY: install demo serve test test-slow test-matrix lint up down lock clean

install: .venv/installed ## the virtual environment, from the lock

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12"'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing from requirements.lock (about two minutes) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.lock
	@touch $@

demo: install ## the image classification flow on the embedded sample
	@$(BIN)/python -m flows.image_classification --preset smoke

serve: install ## the newest version of every model that a flow released
	@mkdir -p .verticals/models
	@$(BIN)/python -m tasks.serving .verticals/models --grpc_port 8001 --watch_seconds 2 --graph_cache .verticals/graphs

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
	@$(BIN)/python -m deploy.local up

down: ## stop just those
	@$(BIN)/python -m deploy.local down

lock: ## refresh requirements.lock
	@$(BIN)/python -m pip install --quiet pip-tools
	@$(BIN)/pip-compile --quiet --upgrade --extra dev --strip-extras --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	@sed -i 's/+cpu$$//' requirements.lock

clean: ## forget every artifact
	rm -rf .verticals
