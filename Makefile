# Everything that a newcomer runs. What a target needs and the machine has not, dev/ brings.

PYTHON ?= python3
BIN := .venv/bin
WITH := $(PYTHON) dev/with_services.py
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-engine test-cluster lint docs venv clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' Makefile
	@echo '  make test ARGS="tests/store -k journal" hands arguments to pytest'

demo: venv  ## run the story of a re-run with real containers
	@$(WITH) --base-image -- $(BIN)/python dev/demo.py

test: venv  ## run every test with real services, and hold the coverage
	@$(BIN)/coverage erase
	@$(WITH) --base-image --postgresql --registry --peer -- $(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

test-engine: venv  ## run the tests that use Docker on a current engine (needs Go and root, or Docker)
	@$(WITH) --current-engine --base-image --postgresql --registry --peer -- $(BIN)/python -m pytest -m docker $(ARGS)

test-cluster: venv  ## run tests/real_cluster on a real Kubernetes (needs Go and root, or a cluster)
	@$(WITH) --kubernetes -- $(BIN)/python -m pytest tests/real_cluster $(ARGS)

lint: venv  ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy dev
	$(BIN)/lint-imports

docs: venv  ## build the documentation
	@$(BIN)/python dev/docs.py

venv:  ## make .venv, or find it made
	@$(PYTHON) dev/make_venv.py

clean:  ## remove what was made in the clone; the cache folder outside (CALIBAN_DEV_DIR) stays
	rm -rf .venv build dist *.egg-info .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find caliban tests dev examples -name __pycache__ -type d -exec rm -rf {} +
