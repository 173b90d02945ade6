# Every target makes and reuses .venv by itself; `make clean` removes it.
PYTHON ?= python3
VENV := .venv
PARITY := .venv-parity
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PARITY_STAMP := $(PARITY)/.installed

.DEFAULT_GOAL := help

.PHONY: help demo serve test lint format proto readme bench parity clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

# The oracles. grad-cam asks for torchvision, which has no CPU build beside this torch: it comes without its
# dependencies (those it uses are in the group), and tests/parity/peers.py stands in for torchvision.
$(PARITY_STAMP): pyproject.toml
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --upgrade pip
	$(PARITY)/bin/python -m pip install --quiet --editable . --group parity
	$(PARITY)/bin/python -m pip install --quiet --no-deps grad-cam==1.5.7
	touch $@

demo: $(STAMP) ## explain three scenes over gRPC and draw a contact sheet
	$(BIN)/onnx-explain demo

MODELS ?= models
serve: $(STAMP) ## serve the folder MODELS (default: models)
	$(BIN)/onnx-explain serve --models $(MODELS)

test: $(STAMP) ## all tests that need neither torch nor a GPU
	$(BIN)/python -m pytest -m "not parity"

parity: $(PARITY_STAMP) ## values against torch, captum and grad-cam, in an environment of their own
	$(PARITY)/bin/python -m pytest -m parity tests/parity

lint: $(STAMP) ## formatting, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## reformat
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

proto: $(STAMP) ## regenerate the gRPC stubs from protos/
	$(BIN)/python -m service.api.generate

readme: $(STAMP) ## regenerate the README's tables from the registries
	$(BIN)/python -m service.commands.tables

BENCH ?=
bench: $(STAMP) ## speed, as ratios (with peers where `make parity` was run; BENCH="gradient --turns 3": a part)
	$(BIN)/python -m tests.bench $(BENCH)

clean: ## remove the environments and caches
	rm -rf $(VENV) $(PARITY) .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
