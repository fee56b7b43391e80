# Two commands work on a fresh machine:
#   make bench     sets up .venv, then runs: bench run --backbone gloma --suite d4rl
#   make test      sets up .venv, then runs the test suite
# For changes:
#   make lint                checks style and types
#   make fuzz                damages foreign files and reads them; FUZZ=1000 for fewer inputs than 10,000
# For the leaderboard, without torch:
#   make leaderboard         renders leaderboard/published/pages from the records, and checks both
#   make leaderboard-check   checks only
# For CI:
#   make nightly             runs the tests, a smoke grid and the check, and writes a site to build/site
# Options: ARGS="--backbone mamba --suite d4rl"   arguments of `bench run`
#          PYTHON=python3.12                      the interpreter, 3.11 to 3.13
#          SINCE=origin/main                      with leaderboard-check: fails if a record changed since this revision
#          TORCH_INDEX=<address>                  an additional package index for torch, such as PyTorch's CPU builds
#          TESTS=tests/leaderboard                with test: only these

.DELETE_ON_ERROR:
.PHONY: bench test lint fuzz setup clean leaderboard leaderboard-check nightly

ARGS ?= --backbone gloma --suite d4rl
PYTHON ?= $(shell sh .ci/find-python)
VENV := .venv
BIN := $(VENV)/bin
PIP = PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-compile --constraint $(VENV)/constraints.txt
TESTS ?=
FUZZ ?= 10000
BACKBONES := transformer,mamba,gloma,mlp,identity
NIGHTLY := build/nightly
SITE := build/site
# The leaderboard has a small environment without torch. If .venv exists, make uses that one instead.
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

fuzz: $(VENV)/.ready-test
	@$(BIN)/python tests/fuzz/run.py --inputs $(FUZZ)

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
