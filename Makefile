# Each target only calls onnxbuild and standard tools. `make` alone lists them.

PYTHON  ?= python3.11
VENV    ?= .venv
BIN     := $(VENV)/bin
RECIPES := $(sort $(filter-out %.lock,$(notdir $(basename $(wildcard recipes/*.yaml)))))
# Recipes whose models or weights come from packages beyond the first command's.
EXTRAS  := $(filter minilm efficientnet silero-vad% basic-pitch mtcnn-% mobilenet-keras wine%,$(RECIPES))
LIGHT   := $(filter-out $(EXTRAS),$(RECIPES))
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup check lint types test bench schemas all report clean $(RECIPES)

help: ## list the targets (the default)
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  one recipe by name, as make resnet:"
	@echo "$(RECIPES)" | fold -s -w 70 | sed 's/^/    /'

setup: $(VENV)/.extras $(VENV)/.dev $(VENV)/.web ## create .venv with everything: the tool, all recipes, the tests

# torch comes first and alone: anything else that asks for it could bring another build of it.
$(VENV)/.tool: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) --constraint constraints.txt --editable . --config-settings editable_mode=compat
	@$(BIN)/python -m compileall -q onnxbuild  # stages keep no bytecode: without it each would compile our own code anew
	@touch $@

# basic-pitch alone: its needs would bring an older TensorFlow, and only its model is wanted.
$(VENV)/.extras: $(VENV)/.tool
	$(PIP) --constraint constraints.txt --editable '.[recipes]' --config-settings editable_mode=compat
	$(PIP) --no-deps basic-pitch==0.4.0
	@touch $@

$(VENV)/.dev: $(VENV)/.tool
	$(PIP) --constraint constraints.txt --editable '.[dev]' --config-settings editable_mode=compat
	@touch $@

# What the tests of the web target and of the schema run, where there is npm; without it they are skipped, and say so.
$(VENV)/.web: tests/web/package-lock.json | $(VENV)/.tool
	@if command -v npm >/dev/null; \
	then npm ci --prefix tests/web --no-audit --no-fund --ignore-scripts --loglevel=error && touch $@; \
	else echo "npm is not on the PATH: onnxruntime-web and yaml-language-server are not installed, and their tests are skipped"; fi

# The tools that the benchmark compares with have an environment of their own: their needs may not bend ours.
$(VENV)/.bench: $(VENV)/.tool tests/bench/requirements.txt
	$(PYTHON) -m venv $(VENV)/bench
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/bench/requirements.txt
	@touch $@

$(LIGHT): $(VENV)/.tool
	$(BIN)/onnxbuild run recipes/$@.yaml

$(EXTRAS): $(VENV)/.extras
	$(BIN)/onnxbuild run recipes/$@.yaml

all: $(VENV)/.extras ## build all recipes
	$(BIN)/onnxbuild run $(RECIPES:%=recipes/%.yaml)

report: ## say where the reports are
	@ls build/*/report.html 2>/dev/null || echo "no reports yet: make resnet"

check: lint types test ## lint, types and tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

test: $(VENV)/.extras $(VENV)/.dev $(VENV)/.web ## run the tests
	@$(BIN)/python -m compileall -q onnxbuild  # stages keep no bytecode: without it each would compile our own code anew
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.dev $(VENV)/.bench ## measure against a plain script, idle against doit, dvc and snakemake, a change in a thousand recipes, faults
	$(BIN)/python tests/bench/bench.py
	$(BIN)/python tests/bench/idle.py
	$(BIN)/python tests/bench/fleet.py 1000
	$(BIN)/python tests/bench/faults.py

schemas: $(VENV)/.tool ## write schemas/*.json from the types
	$(BIN)/onnxbuild schema --write schemas

clean: ## remove what was built, and the store; .venv stays
	rm -rf build .onnxbuild
