# The front door. Needs Python 3.11 or newer and make; everything else is installed into .venv.

SHELL := /bin/sh
BIN := .venv/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
KERNELS := $(wildcard kernels/*.cpp kernels/*.hpp runtime/*.cpp runtime/*.hpp runtime/*.h runtime/*.c)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types format docs bench clean distclean

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: ## make .venv, build the kernels, install Conveyor into it
	@test -n "$(PYTHON)" || { echo "Conveyor needs Python 3.11 or newer, and none was found." \
		"Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) scripts/setup.py

demo: setup ## train a small language model and show what it learned (about 3 minutes)
	$(BIN)/conveyor demo $(ARGS)

test: setup ## run the test suite; ARGS="-k name" runs a part of it
	@# Threads that spin while they wait would take the core of the other process.
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## check style and layout of Python and C++
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(if $(KERNELS),$(BIN)/clang-format --dry-run --Werror $(KERNELS))

types: setup ## check the types
	$(BIN)/mypy

format: setup ## lay out Python and C++ anew
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(if $(KERNELS),$(BIN)/clang-format -i $(KERNELS))

docs: setup ## write docs/tasks.md from the tasks
	$(BIN)/python scripts/docs.py

bench: setup ## measure the layer against torch.nn.LSTM
	$(BIN)/python benchmarks/layer.py $(ARGS)

clean: ## remove what was built, and caches
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .venv/conveyor-setup.json
	find src tests benchmarks scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove .venv too
	rm -rf .venv
