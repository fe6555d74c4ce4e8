# Everything that a newcomer runs. What a target needs and the machine has not, dev/ brings.

PYTHON ?= python3
BIN := .venv/bin
WITH := $(PYTHON) dev/with_services.py
SERVICES := --base-image --postgresql --registry --peer
PARALLEL := --numprocesses auto --dist loadgroup
QUICK := not docker and not postgresql and not peer
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test quick coverage lint docs venv clean

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' Makefile
	@echo '  make test ARGS="tests/store -k journal" hands arguments to pytest'

demo: venv  ## run the story of a re-run with real containers
	@$(WITH) --base-image -- $(BIN)/python dev/demo.py

test: venv  ## run every test with real services
	@$(WITH) $(SERVICES) -- $(BIN)/pytest $(PARALLEL) $(ARGS)

quick: venv  ## run the tests that need neither Docker nor a database server
	@DOCKER_HOST=unix:///nonexistent/docker.sock $(BIN)/pytest $(PARALLEL) -m "$(QUICK)" $(ARGS)

coverage: venv  ## run every test, and check the coverage
	@$(BIN)/coverage erase
	@$(WITH) $(SERVICES) -- $(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

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
