# The few commands for people and CI alike. 'make help' lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
PYTEST_ARGS ?=
# More than a small machine has cores: many tests wait.
TEST_WORKERS ?= 3
BENCH_ARGS ?=
FUZZ_ARGS ?=
CHAOS_ARGS ?=

# The first of these that is a Python we support; PYTHON=/path/to/python to choose another.
PYTHON ?= $(shell for p in python3.11 python3 python3.12; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)

# Named after what it installed: nothing is installed again until one of these files changes.
STAMP := $(VENV)/installed-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)

.PHONY: help install demo serve test lint format chaos conformance fuzz-api fuzz-models bench bench-quality bench-models bench-tiny lock audit sbom docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv and install exactly what requirements.lock says

$(STAMP):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found (Debian: apt-get install python3.11 python3.11-venv); PYTHON=/path/to/python names one"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sed -n '/^torch==/,/# via/p' requirements.lock > $(VENV)/torch.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/torch.lock \
		|| { echo "PyTorch's build for CPUs is not on PyPI: set PIP_EXTRA_INDEX_URL to the index of CPU wheels that 'Start Locally' on pytorch.org names (Compute Platform: CPU), or PIP_FIND_LINKS to a folder with the wheel of requirements.lock"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/installed-*
	@touch $@

demo: install ## Compress a real model through the running service, print before and after
	@$(BIN)/python -m deploy.local.demo

serve: install ## Keep the whole stack up on http://127.0.0.1:8080 (PORT=...) until Ctrl-C
	@exec $(BIN)/python -m deploy.local.serve --port $(PORT)

test: install lint ## Lint, then all tests on real parts, three files at a time (PYTEST_ARGS=... is passed on)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: install ## Style, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

format: install ## Put code in the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Measure beside a plain script and plain S3; writes docs/benchmarks.md (BENCH_ARGS='--data DIR')
	$(BIN)/python -m tests.benchmarks --write $(BENCH_ARGS)

bench-quality: install ## Compress the papers' networks by docs/recipes and write what they reach (BENCH_ARGS='--data DIR')
	$(BIN)/python -m tests.benchmarks.quality --write $(BENCH_ARGS)

bench-models: install ## Send networks of keras.applications and of PyTorch through jobs; writes docs/models.md
	$(BIN)/python -m tests.benchmarks.architectures --write $(BENCH_ARGS)
	$(BIN)/python -m tests.benchmarks.exported_models --write

bench-tiny: install ## Send the networks of MLPerf Tiny through jobs; writes docs/benchmarks.md (BENCH_ARGS='--data DIR')
	$(BIN)/python -m tests.benchmarks.tiny --write $(BENCH_ARGS)

conformance: install ## What every technique promises, of both frameworks in every combination (make test: some of them)
	FEATHERWEIGHT_EVERY_COMBINATION=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile tests/conformance tests/compression $(PYTEST_ARGS)

fuzz-api: install ## Requests made of the API's description, by the thousand (FUZZ_ARGS='--examples 200 --seed 2')
	$(BIN)/python -W ignore -m tests.fuzzing.api $(FUZZ_ARGS)

fuzz-models: install ## Damaged files of every format through the static gate (FUZZ_ARGS='--files 2000 --jobs 20 --seed 2')
	$(BIN)/python -W ignore -m tests.fuzzing.models $(FUZZ_ARGS)

chaos: install ## 200 real jobs while workers, Redis, storage and the API are killed and frozen (CHAOS_ARGS='--jobs 200 --seed 1 --workers 3 --write')
	@$(BIN)/python -W ignore -m tests.chaos $(CHAOS_ARGS)

lock: install ## Make requirements.lock anew from pyproject.toml
	$(BIN)/python -m deploy.lock

audit: install ## Look for known vulnerabilities of what is locked, where PyPI's database answers
	@$(BIN)/python -m deploy.audit

sbom: install ## Write what is in each image to build/sbom, as CycloneDX
	@$(BIN)/python -m deploy.sbom

docs: install ## Make the generated pages of docs/ anew
	$(BIN)/python -m deploy.documentation

clean: ## Remove .venv, caches and local data
	rm -rf $(VENV) .local build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
