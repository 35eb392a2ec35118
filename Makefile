# make setup | demo | test | test-long | test-unit | check | format | bench | clean
#   DEVICE=cpu|gpu     chosen by whether `nvidia-smi -L` works; PYTHON=... names the interpreter
BIN     := .venv/bin
CODE    := t2g_ray actors benchmarks
# All but `peers`, which needs TRL (the extra "bench").
BENCHES := rollout rewards sync learner loop scale serve

DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
LOCK   := requirements/$(DEVICE).txt
READY  := .venv/ready-$(DEVICE)

# Runs only where an interpreter is 3.11 or newer and can make virtual environments.
PYTHON_FITS := -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON       = $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python $(PYTHON_FITS) && echo $$python && break; done)

# pip compiles modules one after the other, which takes longer than the rest; compileall uses all cores.
PIP     := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-compile
INSTALL := $(PIP) -c $(LOCK)
# The CPU build of torch is not on the package index; no other package is looked up there, and a
# machine that cannot reach it but has a local wheel does not wait for long.
TORCH_INDEX_cpu := --extra-index-url https://download.pytorch.org/whl/cpu --retries 2 --timeout 30

.PHONY: setup demo test test-long test-unit check format bench clean

setup: $(READY)

$(READY): $(LOCK) requirements/common.txt requirements/reference.txt pyproject.toml
	@$(or $(PYTHON),false) $(PYTHON_FITS) || { echo "t2g-ray needs Python 3.11 or newer with its venv module; \
	found: $$($(or $(PYTHON),python3) --version 2>&1). Install one (Debian, Ubuntu: apt install python3.11-venv) \
	or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing the $(DEVICE) set into .venv (minutes; nothing outside this folder changes)"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) pip setuptools
	@$(INSTALL) torch $(TORCH_INDEX_$(DEVICE))
	@$(INSTALL) --no-build-isolation -r $(LOCK) -e .
	@$(PIP) --upgrade --target .venv/reference -r requirements/reference.txt
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true  # some are for other versions
	@rm -f .venv/ready-* && touch $@

demo: setup
	$(BIN)/t2g demo

test: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

# Tiny benchmarks that run another program beside this one, whole tables of runs, and long fuzzing.
test-long: setup
	$(BIN)/pytest -m long

test-unit: setup
	$(BIN)/pytest -m "not long" tests/unit

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/pytest -q -n 2 --dist worksteal -m "not slow and not long" --cov --cov-report=term:skip-covered tests/unit

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	for bench in $(BENCHES); do $(BIN)/t2g bench $$bench || exit 1; done

clean:
	rm -rf .coverage* .venv build dist *.egg-info .*_cache .hypothesis
	find $(CODE) tests -name __pycache__ -prune -exec rm -rf {} +
