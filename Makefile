# Two commands work on a fresh machine:
#   make bench     sets up .venv, then runs: bench run --backbone gloma --suite d4rl
#   make test      sets up .venv, then runs the test suite
# For changes:
#   make lint                checks style, types and workflows
#   make cluster-tools       installs Slurm, Munge and PostgreSQL with apt-get, as root, for the next one (Debian)
#   make test-cluster        runs cells on a Slurm, a Ray and a server of objects that it starts on this machine
#   make chaos               kills processes at 1,000 random moments and looks at what they leave
#   make lock                writes locks/ anew from pyproject.toml and constraints.txt (UPGRADE=1: newest versions)
#   make sbom                lists what is installed, with licences, in build/sbom
#   make fuzz                damages foreign files and reads them; FUZZ=1000 for fewer inputs than 10,000
# For a machine with a GPU, which may have no network:
#   make gpu                 measures training on it in less than five minutes, with a report in gpu-report (or in $OUT)
#   make gpu-wheels          downloads the packages for that, to take along in wheels/; torch must be there
# For a release:
#   make dist                builds a source archive and this machine's wheel in dist/
# For the leaderboard, without torch:
#   make leaderboard         renders leaderboard/published/pages from the records, and checks both
#   make leaderboard-check   checks only
# For the documentation, in an environment of its own:
#   make docs                builds the site in build/site: the committed board, and the pages in docs
# For CI:
#   make test-slow           runs the tests that take minutes
#   make nightly             runs all these tests, a smoke grid and the check, and adds the grid's board to the site
# Options: ARGS="--backbone mamba --suite d4rl"   arguments of `bench run`
#          PYTHON=python3.12                      the interpreter, 3.11 to 3.13
#          SINCE=origin/main                      with leaderboard-check: fails if a record changed since this revision
#          TORCH_INDEX=<address>                  an additional package index for torch, such as PyTorch's CPU builds
#          DEVICE=cpu                             with gpu: rehearses on the CPU
#          GPU_PYTHON=3.12                        with gpu-wheels: the other machine's Python
#          TESTS=tests/leaderboard                with test: only these

.DELETE_ON_ERROR:
.PHONY: bench chaos cluster-tools dist fuzz gpu gpu-wheels test test-cluster test-slow lint lock sbom setup clean leaderboard
.PHONY: leaderboard-check docs nightly

ARGS ?= --backbone gloma --suite d4rl
PYTHON ?= $(shell sh .ci/find-python)
VENV := .venv
BIN := $(VENV)/bin
LOCKS := pyproject.toml constraints.txt $(wildcard locks/*.txt) .ci/make-venv
PIP := -m pip --disable-pip-version-check install --quiet --no-compile
# Every package has the version and a hash that its lock file lists. Only torch has no hash: constraints.txt says why.
LOCKED := $(PIP) --require-hashes --no-deps --no-build-isolation --use-pep517 --requirement
TESTS ?=
KILLS ?= 1000
FUZZ ?= 10000
DEVICE ?= cuda
WHEELS ?= wheels
GPU_PYTHON ?= 3.12
NIGHTLY := build/nightly
SITE := build/site
SBOM := build/sbom
# The leaderboard has a small environment without torch. If .venv exists, make uses that one instead.
PAGES := .venv-pages
DOCS := .venv-docs
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

test-slow: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -n auto -m slow $(TESTS)

cluster-tools:
	@apt-get update
	@apt-get install --yes --no-install-recommends munge slurmctld slurmd slurm-client postgresql

test-cluster: $(VENV)/.ready-cluster
	@$(BIN)/python -m pytest -m cluster --durations=10 $(TESTS)

lint: $(VENV)/.ready-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/zizmor --offline --quiet .github/workflows
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml

lock: $(VENV)/.ready-lint
	@sh .ci/make-lock $(BIN)/uv $(if $(UPGRADE),--upgrade)

sbom: $(VENV)/.ready-lint
	@mkdir -p $(SBOM)
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file $(SBOM)/backbench.cdx.json $(BIN)/python
	@$(BIN)/python tools/licences.py > $(SBOM)/licences.csv
	@echo "written: $(SBOM)"

dist: $(VENV)/.ready-lint
	@rm -rf dist build/dist
	@$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir build/dist .
	@PATH="$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/dist/*.whl
	@mv build/dist/*.tar.gz dist/
	@ls dist

fuzz: $(VENV)/.ready-test
	@$(BIN)/python tests/fuzz/run.py --inputs $(FUZZ)

gpu:
	@sh .ci/gpu-check "$(PYTHON)" $(VENV) "$(WHEELS)" --device $(DEVICE)

gpu-wheels:
	@sh .ci/gpu-wheels "$(PYTHON)" "$(WHEELS)" $(GPU_PYTHON)

leaderboard: $(PAGES_READY)
	@$(LEADERBOARD) render
	@$(LEADERBOARD) check

leaderboard-check: $(PAGES_READY)
	@$(LEADERBOARD) check$(if $(SINCE), --since $(SINCE))

docs: $(DOCS)/.ready
	@PYTHONPATH=tools NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build

chaos: $(VENV)/.ready-test
	@PYTHONPATH=tests/helpers $(BIN)/python tests/helpers/chaos.py $(KILLS)

nightly: $(VENV)/.ready test test-slow
	@rm -rf $(NIGHTLY)
	@$(MAKE) --no-print-directory bench ARGS="--backbone all --suite d4rl --preset smoke --out $(NIGHTLY)"
	@$(MAKE) --no-print-directory bench ARGS="--backbone all --suite atari --preset smoke --out $(NIGHTLY)"
	@$(BIN)/bench leaderboard --check
	@$(MAKE) --no-print-directory docs
	@$(BIN)/bench leaderboard $(NIGHTLY) --format html --out $(SITE)/nightly

setup: $(VENV)/.ready

$(VENV)/.ready: $(LOCKS)
	@sh .ci/make-venv "$(PYTHON)" $(VENV)
	@echo "Setting up $(VENV) (a few minutes, once)"
	@$(BIN)/python $(LOCKED) $(VENV)/locks/build.txt
	@$(BIN)/python $(LOCKED) $(VENV)/locks/run.txt
	@if [ -s $(VENV)/locks/constraints.txt ]; then $(BIN)/python $(PIP) --constraint $(VENV)/locks/constraints.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch; fi
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(PAGES)/.ready: LOCK := pages
$(DOCS)/.ready: LOCK := docs
$(PAGES)/.ready $(DOCS)/.ready: $(LOCKS)
	@sh .ci/make-venv "$(PYTHON)" $(@D)
	@echo "Setting up $(@D) (once)"
	@printf '*\n' > $(@D)/.gitignore
	@$(@D)/bin/python $(PIP) --require-hashes --no-deps --requirement $(@D)/locks/$(LOCK).txt
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(BIN)/python $(LOCKED) $(VENV)/locks/test.txt
	@touch $@

$(VENV)/.ready-cluster: $(VENV)/.ready-test
	@$(BIN)/python $(LOCKED) $(VENV)/locks/cluster.txt
	@touch $@

$(VENV)/.ready-lint: $(VENV)/.ready-test
	@$(BIN)/python $(LOCKED) $(VENV)/locks/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) $(PAGES) $(DOCS) build dist *.egg-info
