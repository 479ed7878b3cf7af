# Two commands on a bare machine: `make demo` and `make test`. Everything they need comes from a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The environment has one too, once it is installed.
UV := $(shell command -v uv || ls $(BIN)/uv 2>/dev/null)

# As pip does by itself: many processes that begin together would each compile every library.
export UV_COMPILE_BYTECODE := 1

# More processes than cores: much of the suite waits for servers and workers to start.
SPREAD := -n 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test lint format test-lowest test-rq wheel-test bench screenshots completions schema clean

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Made with uv when it is there, else with venv and pip. The stamp says that the install was completed.
$(VENV)/.installed: pyproject.toml sitegenctl/__init__.py
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python --editable '.[demo]' --group dev
else
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]' --group dev
endif
	@touch $@

demo: $(VENV)/.installed ## Start a private stack and generate order 42 before your eyes (BACKEND=rq: on RQ).
	@exec $(BIN)/sitegenctl demo tour $(if $(BACKEND),--backend $(BACKEND))

test: $(VENV)/.installed .venv-deployed/.installed ## Run the whole suite on real servers.
	$(BIN)/python -m pytest $(SPREAD)

# Every dependency at its floor. The floors of tools don't matter, so that only the package's own are lowered.
.venv-lowest/.installed: $(VENV)/.installed
	@test -x .venv-lowest/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[demo]'
	$(BIN)/uv pip freeze --quiet --python .venv-lowest/bin/python --exclude-editable > .venv-lowest/floors.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --constraints .venv-lowest/floors.txt --group dev
	@touch $@

test-lowest: .venv-lowest/.installed .venv-deployed/.installed ## Run the suite with every dependency at its floor.
	.venv-lowest/bin/python -m pytest $(SPREAD)

# RQ at its floor and in between; the environment has the newest. Everything else is as there.
RQ_VERSIONS := 1.15 2.6

.venv-rq-%/.installed: $(VENV)/.installed
ifdef UV
	@test -x .venv-rq-$*/bin/python || $(UV) venv --quiet --python $(BIN)/python .venv-rq-$*
	$(UV) pip install --quiet --python .venv-rq-$*/bin/python --editable '.[demo,rq]' --group dev 'rq==$*.*'
else
	@test -x .venv-rq-$*/bin/python || $(PYTHON) -m venv .venv-rq-$*
	.venv-rq-$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-rq-$*/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,rq]' --group dev 'rq==$*.*'
endif
	@touch $@

test-rq: $(RQ_VERSIONS:%=.venv-rq-%/.installed) ## Run what is about RQ with RQ 1.15 and 2.6.
	@for each in $(RQ_VERSIONS); do echo "== rq $$each"; .venv-rq-$$each/bin/python -m pytest $(SPREAD) -k rq tests/contract tests/integration || exit 1; done

wheel-test: $(VENV)/.installed ## Build the wheel; try it in clean environments of 3.11 and the newest Python there is.
	$(BIN)/python -m tests.support.wheel

lint: $(VENV)/.installed ## Check format, rules, types and the layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## Put every file into shape.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed ## Measure, as ratios, what is promised about speed.
	@unset PYTHONDONTWRITEBYTECODE; for each in benchmarks/[a-z]*.py; do echo "== $$each"; $(BIN)/python -m "benchmarks.$$(basename $$each .py)" || exit 1; done

screenshots: $(VENV)/.installed ## Write the README's pictures from the demo's state.
	$(BIN)/python docs/screenshots.py

completions: $(VENV)/.installed ## Write the completion scripts.
	@mkdir -p completions
	$(BIN)/sitegenctl completion bash > completions/sitegenctl.bash
	$(BIN)/sitegenctl completion zsh > completions/_sitegenctl
	$(BIN)/sitegenctl completion fish > completions/sitegenctl.fish
	$(BIN)/sitegenctl completion powershell > completions/sitegenctl.ps1

schema: $(VENV)/.installed ## Write the tables that compose.yaml begins with.
	$(BIN)/python docs/schema.py

clean: ## Remove what the other targets made.
	rm -rf .venv .venv-* build dist *.egg-info .*_cache .hypothesis

# What the deployed worker's image pins, with the click of its time: celery 5.3.4's command needs no newer one.
DEPLOYED := celery==5.3.4 redis==4.6.0 sqlalchemy==2.0.23 asyncpg==0.29.0 'click<8.2'

.venv-deployed/.installed: pyproject.toml sitegenctl/__init__.py
ifdef UV
	@test -x .venv-deployed/bin/python || $(UV) venv --quiet --python 3.11 .venv-deployed
	$(UV) pip install --quiet --python .venv-deployed/bin/python --editable . $(DEPLOYED)
else
	@test -x .venv-deployed/bin/python || $(PYTHON) -m venv .venv-deployed
	.venv-deployed/bin/python -m pip install --quiet --disable-pip-version-check --editable . $(DEPLOYED)
endif
	@touch $@
