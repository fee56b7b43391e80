# Two commands do everything on a fresh machine:
#   make bench     sets up .venv, then: bench run --backbone gloma --suite d4rl
#   make test      sets up .venv, then: the whole test suite
# Options: ARGS="--backbone mamba --suite d4rl"   what is passed to `bench run`
#          PYTHON=python3.12                      the interpreter, 3.11 to 3.13
#          TORCH_INDEX=<address>                  a further package index for torch, e.g. PyTorch's for CPU builds

.DELETE_ON_ERROR:
.PHONY: bench test lint setup clean

ARGS ?= --backbone gloma --suite d4rl
PYTHON ?= $(shell sh .ci/find-python)
VENV := .venv
BIN := $(VENV)/bin
PIP = PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-compile --constraint $(VENV)/constraints.txt
TESTS ?=
export OMP_NUM_THREADS ?= 1

bench: $(VENV)/.ready
	@$(BIN)/bench run $(ARGS)

test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -n auto $(TESTS)

lint: $(VENV)/.ready-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt .ci/make-venv
	@sh .ci/make-venv "$(PYTHON)" $(VENV)
	@echo "Setting up $(VENV) (a few minutes, once)"
	@if grep -q '^torch==' $(VENV)/constraints.txt; then \
	  $(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch; fi
	@$(PIP) --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.ready-lint: $(VENV)/.ready
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
