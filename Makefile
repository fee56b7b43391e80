# Two commands do everything on a fresh machine:
#   make bench     sets up .venv, then: bench run --backbone gloma --suite d4rl
#   make test      sets up .venv, then: the whole test suite
# And for the leaderboard:
#   make leaderboard         writes leaderboard/published/pages from leaderboard/published/records and checks both; needs no torch
#   make leaderboard-check   checks alone
#   make nightly             what runs every night: the tests, a smoke grid, the check, and a site in build/site
# Options: ARGS="--backbone mamba --suite d4rl"   what is passed to `bench run`
#          PYTHON=python3.12                      the interpreter, 3.11 to 3.13
#          SINCE=origin/main                      with leaderboard-check: records may only have been added since then
#          TORCH_INDEX=<address>                  a further package index for torch, e.g. PyTorch's for CPU builds

.DELETE_ON_ERROR:
.PHONY: bench test lint setup clean leaderboard leaderboard-check nightly

ARGS ?= --backbone gloma --suite d4rl
PYTHON ?= $(shell sh .ci/find-python)
VENV := .venv
BIN := $(VENV)/bin
PIP = PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-compile --constraint $(VENV)/constraints.txt
TESTS ?=
BACKBONES := transformer,mamba,gloma,mlp,identity
NIGHTLY := build/nightly
SITE := build/site
# The leaderboard's own environment holds no torch; where there is the whole one already, that serves too.
PAGES := .venv-pages
ifneq ($(wildcard $(BIN)/bench),)
PAGES_READY :=
LEADERBOARD := PYTHONPATH=src $(BIN)/python -m backbench.leaderboard
else
PAGES_READY := $(PAGES)/.ready
LEADERBOARD := PYTHONPATH=src $(PAGES)/bin/python -m backbench.leaderboard
endif
export OMP_NUM_THREADS ?= 1

bench: $(VENV)/.ready
	@$(BIN)/bench run $(ARGS)

test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -n auto $(TESTS)

lint: $(VENV)/.ready-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

leaderboard: $(PAGES_READY)
	@$(LEADERBOARD) render
	@$(LEADERBOARD) check

leaderboard-check: $(PAGES_READY)
	@$(LEADERBOARD) check$(if $(SINCE), --since $(SINCE))

nightly: $(VENV)/.ready test
	@rm -rf $(NIGHTLY) $(SITE)
	@$(MAKE) --no-print-directory bench ARGS="--backbone $(BACKBONES) --suite d4rl --preset smoke --out $(NIGHTLY)"
	@$(MAKE) --no-print-directory bench ARGS="--backbone $(BACKBONES) --suite atari --preset smoke --out $(NIGHTLY)"
	@$(BIN)/bench leaderboard --check
	@$(BIN)/python -m backbench.leaderboard render --pages $(SITE)
	@$(BIN)/bench leaderboard $(NIGHTLY) --format html --out $(SITE)/nightly

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt .ci/make-venv
	@sh .ci/make-venv "$(PYTHON)" $(VENV)
	@echo "Setting up $(VENV) (a few minutes, once)"
	@if grep -q '^torch==' $(VENV)/constraints.txt; then \
	  $(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch; fi
	@$(PIP) --editable .
	@touch $@

$(PAGES)/.ready: constraints.txt .ci/make-venv
	@sh .ci/make-venv "$(PYTHON)" $(PAGES)
	@echo "Setting up $(PAGES) (once)"
	@printf '*\n' > $(PAGES)/.gitignore
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PAGES)/bin/python -m pip install --quiet --no-compile \
	  --constraint $(PAGES)/constraints.txt numpy pydantic rich
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.ready-lint: $(VENV)/.ready
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(PAGES) build dist *.egg-info
