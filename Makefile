# The commands of development. dev/ provides what a target needs and the machine does not have.

PYTHON ?= python3
BIN := .venv/bin
WITH := $(PYTHON) dev/with_services.py
SERVICES := --base-image --postgresql --registry --peer
# tests that use Docker wait for it now and then: with one more worker than there are cores they take 10 % less
WORKERS = $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PARALLEL = --numprocesses $(WORKERS)
QUICK := not docker and not postgresql and not peer
ARGS ?=
# without the files that Python caches, every test process compiles all modules again: 5 s for each worker
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test quick fuzz coverage test-engine test-cluster test-dockerignore lint docs venv clean

help:  ## show this help
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' Makefile
	@echo '  make test ARGS="tests/store -k journal" passes arguments to pytest'

demo: venv  ## run, fix and re-run an example with real containers
	@$(WITH) --base-image -- $(BIN)/python dev/demo.py

test: venv  ## run every test with real services
	@$(WITH) $(SERVICES) -- $(BIN)/python -m pytest $(PARALLEL) $(ARGS)

quick: venv  ## run one case of each test that needs neither Docker nor a database server, nor more than a second
	@DOCKER_HOST=unix:///nonexistent/docker.sock $(BIN)/python -m pytest --quick --numprocesses auto -m "$(QUICK)" $(ARGS)

fuzz: venv  ## try many other inputs in the tests that generate theirs; make test tries the same ones each time
	@DOCKER_HOST=unix:///nonexistent/docker.sock $(BIN)/python -m pytest --fuzz --timeout 3600 --numprocesses auto -m "hypothesis and $(QUICK)" $(ARGS)

coverage: venv  ## run every test, and check the coverage
	@$(BIN)/coverage erase
	@$(WITH) $(SERVICES) -- $(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

test-engine: venv  ## run the tests that use Docker on a current engine (needs Go and root, or Docker)
	@$(WITH) --current-engine $(SERVICES) -- $(BIN)/python -m pytest $(PARALLEL) -m docker $(ARGS)

test-cluster: venv  ## run tests/real_cluster on a real Kubernetes (needs Go and root, or a cluster)
	@$(WITH) --kubernetes -- $(BIN)/python -m pytest tests/real_cluster $(ARGS)

test-dockerignore: venv  ## compare how caliban and BuildKit read .dockerignore, with random files (needs Go)
	@$(BIN)/python dev/dockerignore.py $(ARGS)

lint: venv  ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy dev
	$(BIN)/lint-imports

docs: venv  ## generate docs/commands.md, and the tables of docs/json.md
	@$(BIN)/python dev/docs.py

venv:  ## create .venv, unless it is up to date
	@$(PYTHON) dev/make_venv.py

clean:  ## remove what was made in the clone; the cache directory outside (CALIBAN_DEV_DIR) stays
	rm -rf .venv build dist *.egg-info .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find caliban tests dev examples -name __pycache__ -type d -exec rm -rf {} +
