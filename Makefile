# The first of these that really starts here; override with `make run PYTHON=...`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
ARGS ?= router=mlp threshold=0.1
SGLANG_TESTS ?= tests/sglang_cpu
BIN := .venv/bin
READY := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-sglang lint bench experiments drill audit wheel

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## label, train, evaluate, report (ARGS="key=value ..." to change)
	$(BIN)/python run.py $(ARGS)

# Side by side: a test's models are so small that one core is fastest for each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: $(READY) ## set up, then run all tests
	$(PYTEST)

test-fast: $(READY) ## the tests that take seconds
	$(PYTEST) -m "not slow"

test-sglang: $(READY) ## real SGLang on the CPU, in an environment of its own (cached)
	R2R_SGLANG_PYTHON=$$(PYTHON=$(PYTHON) tests/sglang_cpu/environment.sh) && export R2R_SGLANG_PYTHON && \
	  $(BIN)/pytest -o timeout=1800 $(SGLANG_TESTS)

lint: $(READY) ## style, format, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

BENCHES := decode.py policies.py "decode.py --pairs nano --batches 1 --compile" delay.py lengths.py router.py \
  "training.py --compile" "training.py --memory" labelling.py "labelling.py --pair medium" startup.py
bench: $(READY) ## speed beside the peers, hours (benchmarks/README.md)
	@for it in $(BENCHES); do $(BIN)/python benchmarks/$$it || exit 1; done
	@$(BIN)/python run.py stages=[label] && $(BIN)/python benchmarks/shuffle.py

drill: $(READY) ## kill, fill the disk, turn the clock: 72 disturbed jobs end as undisturbed
	$(BIN)/python tests/drill.py
	$(BIN)/python tests/kills.py

# sqlitedict unpickles its files and has no mended release; only lm-eval's --use_cache, which is
# refused here, would open one.
audit: $(READY) ## known vulnerabilities of the pinned dependencies (needs pypi.org)
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip \
	  --ignore-vuln GHSA-g4r7-86gm-pgqc

wheel: $(READY) ## wheel and sdist, in dist/
	$(BIN)/python -m build

experiments: $(READY) ## every experiment of experiments/ in the small, to see that it runs
	$(BIN)/python experiments/run_all.py --smoke

$(READY): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, found '$(PYTHON)': make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into .venv (once; a few minutes) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@
