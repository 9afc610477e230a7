# Every target sets itself up: .venv is made once and brought up to date whenever the pins change.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python that is really 3.11 or newer: pyenv's shims answer `command -v` and then fail.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := app workers migrations benchmarks tests
MAX_LINES := 300
DATA ?= ../shared/data/magnetic_tile
TABLES := purify detect distillation serving review_page

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Make .venv with the pinned packages (every other target does this by itself)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (about 6 GB with torch; minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,dev,demo]' \
		2> >(grep -v "is ignored: it is neither a file nor a directory" >&2)
	@touch $@

.PHONY: demo
demo: $(READY) ## Purify 600 real solar-cell images through a real server; writes out/demo
	@$(BIN)/python -m benchmarks.demo

.PHONY: serve
serve: $(READY) ## Start the API and one worker on 127.0.0.1:8000
	@$(BIN)/siftline serve

.PHONY: test
test: $(READY) ## Run every test, three files at a time
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: check
check: $(READY) ## Lint, format, types, import contracts, file lengths, container files
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/mypy tests benchmarks
	@$(BIN)/lint-imports --no-logo --no-cache
	@find $(SOURCES) -name '*.py' -exec wc -l {} + | awk -v max=$(MAX_LINES) \
		'$$2 != "total" && $$1 >= max { print $$2 " has " $$1 " lines: split it below " max; bad = 1 } END { exit bad }'
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows docs/ci/github-actions.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.gitlab-ci docs/ci/gitlab-ci.yml

.PHONY: format
format: $(READY) ## Let ruff format and fix what it can
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

.PHONY: bench
bench: $(READY) ## Quality and speed tables on labelled images (long; DATA=folder of images)
	@$(BIN)/python -m benchmarks.extraction_speed $(DATA)
	@for table in $(TABLES); do echo "== $$table"; $(BIN)/python -m "benchmarks.$$table"; done

.PHONY: clean
clean: ## Remove .venv, caches and out/
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
