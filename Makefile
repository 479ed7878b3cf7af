# `make demo` and `make test` work on a bare machine: everything they need comes from a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The environment contains uv once it is installed.
UV := $(shell command -v uv || ls $(BIN)/uv 2>/dev/null)

# As pip does: otherwise many processes that start together would each compile every library.
export UV_COMPILE_BYTECODE := 1

# Otherwise each of the many processes that these start would compile the package.
test test-lowest test-rq bench: export PYTHONDONTWRITEBYTECODE :=

# More processes than cores: much of the suite waits for servers and workers to start.
SPREAD := -n 6 --dist worksteal

# A comma in a call would separate its arguments.
comma := ,

.DEFAULT_GOAL := help
.PHONY: help demo docs test lint format test-lowest test-rq wheel-test release bench screenshots recording completions schema clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Made with uv if available, else with venv and pip. The stamp marks a complete installation.
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

# An environment of its own, with the demo's dependencies alone. What no command imports is never compiled.
DEMO := .venv-demo
DEMO_EXTRAS := demo$(if $(filter rq,$(BACKEND)),$(comma)rq)

$(DEMO)/.installed-$(DEMO_EXTRAS): pyproject.toml sitegenctl/__init__.py
	@echo "Installing the demo in $(DEMO), about 140 MB; this takes some seconds"
ifdef UV
	@test -x $(DEMO)/bin/python || $(UV) venv --quiet --python $(PYTHON) $(DEMO)
	@UV_COMPILE_BYTECODE=0 $(UV) pip install --python $(DEMO)/bin/python --editable '.[$(DEMO_EXTRAS)]'
else
# With the pip that is there, if it is: that saves the seconds and the 17 MB of another.
	@set -e; python=$$(command -v $(PYTHON)); pip="$(DEMO)/bin/python -m pip"; \
	if $$python -m pip --python $$python --version > /dev/null 2>&1; then \
		bare=--without-pip; pip="$$python -m pip --python $(DEMO)/bin/python"; fi; \
	test -x $(DEMO)/bin/python || $$python -m venv $$bare $(DEMO); \
	$$pip install --no-compile --disable-pip-version-check --editable '.[$(DEMO_EXTRAS)]'
endif
	@touch $@

demo: $(DEMO)/.installed-$(DEMO_EXTRAS) ## Start a private stack and generate order 42 (BACKEND=rq: on RQ).
	@exec $(DEMO)/bin/sitegenctl demo tour $(if $(BACKEND),--backend $(BACKEND))

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

# RQ at its floor and in between; the main environment has the newest.
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

test-rq: $(RQ_VERSIONS:%=.venv-rq-%/.installed) ## Run the RQ tests with RQ 1.15 and 2.6.
	@for each in $(RQ_VERSIONS); do echo "== rq $$each"; .venv-rq-$$each/bin/python -m pytest $(SPREAD) -k "rq and not stateful" tests/contract tests/integration || exit 1; done

wheel-test: $(VENV)/.installed ## Build the wheel and try it on Python 3.11 and the newest.
	$(BIN)/python -m tests.support.wheel

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' sitegenctl/__init__.py)

release: $(VENV)/.installed ## Build and check the distributions, and print what to push.
	@test -z "$$(git status --porcelain)" || { echo "release: commit everything first"; exit 1; }
	@grep -q '^## \[$(VERSION)\] - ' CHANGELOG.md || { echo "release: CHANGELOG.md has no section $(VERSION)"; exit 1; }
	@sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/p' CHANGELOG.md | grep -q '^- ' && \
		{ echo "release: move what is under Unreleased in CHANGELOG.md to $(VERSION)"; exit 1; } || true
	rm -rf dist
	$(BIN)/python -m tests.support.wheel dist
	$(BIN)/uvx --quiet twine check --strict dist/*
	$(BIN)/uvx --quiet check-wheel-contents dist/*.whl
	@printf '%s\n' '' 'All checks passed. To publish $(VERSION):' \
		'  git tag --annotate v$(VERSION) --message "sitegenctl $(VERSION)"' \
		'  git push origin main v$(VERSION)' \
		'  $(BIN)/uvx twine upload dist/*'

lint: $(VENV)/.installed ## Check format, rules, types, layers and words.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.words

format: $(VENV)/.installed ## Format every file.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed ## Measure speed as ratios.
	@for each in benchmarks/[a-z]*.py; do echo "== $$each"; $(BIN)/python -m "benchmarks.$$(basename $$each .py)" || exit 1; done

docs: $(VENV)/.installed ## Build the documentation as a site in build/site; dead links are errors.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

screenshots: $(VENV)/.installed ## Write the README's pictures from the demo.
	$(BIN)/python docs/screenshots.py

recording: $(VENV)/.installed ## Write the README's recording from the demo.
	$(UV) run --quiet --with termtosvg --with 'setuptools<80' --with-editable '.[demo]' python docs/recording.py

completions: $(VENV)/.installed ## Write the completion scripts.
	@mkdir -p completions
	$(BIN)/sitegenctl completion bash > completions/sitegenctl.bash
	$(BIN)/sitegenctl completion zsh > completions/_sitegenctl
	$(BIN)/sitegenctl completion fish > completions/sitegenctl.fish
	$(BIN)/sitegenctl completion powershell > completions/sitegenctl.ps1

schema: $(VENV)/.installed ## Write the schema for compose.yaml.
	$(BIN)/python docs/schema.py

clean: ## Remove what the other targets created.
	rm -rf .venv .venv-* build dist *.egg-info .*_cache .hypothesis

# The pins of the deployed worker's image, with a click of the same age for celery 5.3.4's command.
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
