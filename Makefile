# make setup | demo | test | test-long | test-unit | check | format | bench | clean
#   DEVICE=cpu|gpu     chosen by whether `nvidia-smi -L` works; PYTHON=... names the interpreter
CODE    := t2g_ray actors benchmarks
# All but `peers`, which needs TRL (the extra "bench").
BENCHES := rollout rewards sync learner loop scale simulate serve

DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
# Each set has an environment of its own: vLLM's two builds are one package of the same name.
VENV_cpu  := .venv
VENV_gpu  := .venv-gpu
READY_cpu := $(VENV_cpu)/ready-cpu
READY_gpu := $(VENV_gpu)/ready-gpu
# What runs on the device, and what is checked on CPUs wherever it runs.
BIN     := $(VENV_$(DEVICE))/bin
CPU_BIN := $(VENV_cpu)/bin

# Runs only where an interpreter is 3.11 or newer and can make virtual environments.
PYTHON_FITS := -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON       = $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python $(PYTHON_FITS) && echo $$python && break; done)

# pip compiles modules one after the other, which takes longer than the rest; compileall uses all cores.
PIP     = $(VENV_$(SET))/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-compile
INSTALL = $(PIP) -c requirements/$(SET).txt
# The CPU build of torch is not on the package index; no other package is looked up there, and a
# machine that cannot reach it but has a local wheel does not wait for long.
TORCH_INDEX_cpu := --extra-index-url https://download.pytorch.org/whl/cpu --retries 2 --timeout 30

.PHONY: setup demo test test-long test-unit check format bench clean

setup: $(READY_$(DEVICE))

$(READY_cpu): SET := cpu
$(READY_gpu): SET := gpu
$(READY_cpu): requirements/cpu.txt requirements/reference.txt
$(READY_gpu): requirements/gpu.txt

# DeepSpeed's build asks for nvcc wherever torch sees a GPU, although it compiles nothing then.
$(READY_cpu) $(READY_gpu): requirements/common.txt pyproject.toml
	@$(or $(PYTHON),false) $(PYTHON_FITS) || { echo "t2g-ray needs Python 3.11 or newer with its venv module; \
	found: $$($(or $(PYTHON),python3) --version 2>&1). Install one (Debian, Ubuntu: apt install python3.11-venv) \
	or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing the $(SET) set into $(VENV_$(SET)) (minutes; nothing outside this folder changes)"
	@[ ! -e .venv/ready-gpu ] || rm -rf .venv  # both sets once had this place
	@$(PYTHON) -m venv $(VENV_$(SET))
	@$(INSTALL) pip setuptools
	@$(INSTALL) torch $(TORCH_INDEX_$(SET))
	@DS_IGNORE_CUDA_DETECTION=1 $(INSTALL) --no-build-isolation -r requirements/$(SET).txt -e .
	@[ $(SET) = gpu ] || $(PIP) --upgrade --target .venv/reference -r requirements/reference.txt
	@$(VENV_$(SET))/bin/python -m compileall -q -j 0 $(VENV_$(SET))/lib >/dev/null 2>&1 || true  # some are for other versions
	@rm -f $(VENV_$(SET))/ready-* && touch $@

demo: setup
	$(BIN)/t2g demo

# Everything but tests/gpu runs on the CPU set, also where there is a GPU.
test: $(READY_cpu) setup
	$(CPU_BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"
	[ $(DEVICE) = cpu ] || $(BIN)/pytest tests/gpu

# Tiny benchmarks that run another program beside this one, whole tables of runs, and long fuzzing.
test-long: $(READY_cpu)
	$(CPU_BIN)/pytest -m long

test-unit: $(READY_cpu)
	$(CPU_BIN)/pytest -m "not long" tests/unit

check: $(READY_cpu)
	$(CPU_BIN)/ruff format --check .
	$(CPU_BIN)/ruff check .
	$(CPU_BIN)/mypy --strict $(CODE)
	$(CPU_BIN)/pytest -q -n 2 --dist worksteal -m "not slow and not long" --cov --cov-report=term:skip-covered tests/unit

format: $(READY_cpu)
	$(CPU_BIN)/ruff format .
	$(CPU_BIN)/ruff check --fix .

bench: setup
	for bench in $(BENCHES); do $(BIN)/t2g bench $$bench || exit 1; done

clean:
	rm -rf .coverage* .venv .venv-gpu build dist *.egg-info .*_cache .hypothesis
	find $(CODE) tests -name __pycache__ -prune -exec rm -rf {} +
