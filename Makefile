# One virtual environment (.venv) serves every target; stamps in it say what was installed, so a
# second make installs nothing. Python 3.10 or later is all that has to be there.
#
#   make demo    install, pretrain on the embedded data, evaluate, write runs/demo/report.html
#   make test    install with the dev extra, run the tests
#   make help    the other targets

PYTHON ?= python3
# Versions known to work; none takes the newest that pyproject.toml allows (make clean first).
CONSTRAINTS ?= constraints.txt
BENCH ?=
# Folder of the wheels that make gpu installs from.
WHEELS ?=

VENV := .venv
BIN := $(VENV)/bin
GPU_VENV := .venv-gpu
TEXT_VENV := .venv-torchtext
DEMO := runs/demo

PINS := $(filter-out none,$(CONSTRAINTS))
PIP_INSTALL := $(BIN)/python -m pip install --quiet $(addprefix --constraint ,$(PINS))
INSTALLED := $(VENV)/installed.$(notdir $(CONSTRAINTS))
INSTALLED_DEV := $(VENV)/installed-dev.$(notdir $(CONSTRAINTS))

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help environments demo test test-torchtext lint types bench soak wheels gpu clean

help:
	@echo "make demo              install; pretrain, evaluate and report in $(DEMO)"
	@echo "make test              install with the dev extra; run the tests but gpu and soak"
	@echo "make test-torchtext    the unit tests, and those of torchtext, with torch 2.3"
	@echo "make environments      install what the other targets need, and no more"
	@echo "make lint              ruff: rules and format"
	@echo "make types             mypy --strict; pydoclint"
	@echo "make bench             speed and memory against torchmultimodal and Hugging Face"
	@echo "make soak              the tests that are too long for CI"
	@echo "make wheels WHEELS=dir fetch what make gpu needs, on a machine with a network"
	@echo "make gpu WHEELS=dir    the gpu tests, on a machine with torch, a GPU and no network"
	@echo "make clean             remove the environments, caches and built files; runs/ stays"
	@echo "variables: PYTHON=$(PYTHON) CONSTRAINTS=$(CONSTRAINTS) (none: newest versions)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	  "Python 3.10 or later is needed, this is " + sys.version.split()[0] + "; say make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "no environment could be made; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(INSTALLED): pyproject.toml $(PINS) | $(BIN)/python
	@echo "installing into $(VENV) (torch is a large download: minutes)"
	@rm -f $(VENV)/installed*
	$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml $(PINS) | $(BIN)/python
	@echo "installing into $(VENV) with the dev extra (torch is a large download: minutes)"
	@rm -f $(VENV)/installed*
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $(INSTALLED) $@

# An unfinished demo goes on where it stopped; a finished one is kept as $(DEMO).previous.
demo: $(INSTALLED)
	@if [ -e $(DEMO)/report.html ]; then \
	  echo "$(DEMO) is finished: moved to $(DEMO).previous, training afresh"; \
	  rm -rf $(DEMO).previous && mv $(DEMO) $(DEMO).previous; \
	elif [ -d $(DEMO) ]; then echo "$(DEMO) is unfinished: going on with it"; fi
	$(BIN)/flava train pretrain/shapes run_dir=$(DEMO)
	$(BIN)/flava eval $(DEMO) --split publish

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m "not gpu and not soak"

# torchtext is a binary for torch 2.3, which has to be in an environment of its own. The tests of
# torchtext are skipped elsewhere; the variable forbids it here.
TEXT_INSTALLED := $(TEXT_VENV)/installed
# Beside them, what shows that data, model and training work with torch 2.3: some three minutes.
TEXT_TESTS := arrangement.py attention.py backbone.py buckets.py checkpoint.py collate.py \
  curate_command.py data_pack.py decoding.py encoders.py exact_order.py heads.py layout_published.py \
  learner.py loader.py losses.py masking.py optim.py order.py pictures.py reading.py shard_index.py \
  shard_remote.py shard_set.py step.py tokenizers.py torchtext_absent.py transforms.py

$(TEXT_INSTALLED): pyproject.toml constraints-torchtext.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13) and \
	  "torchtext needs Python 3.10 to 3.12, this is " + sys.version.split()[0] + "; say make PYTHON=...")'
	@echo "installing into $(TEXT_VENV) (torch is a large download: minutes)"
	@rm -f $@
	$(PYTHON) -m venv $(TEXT_VENV)
	$(TEXT_VENV)/bin/python -m pip install --quiet --constraint constraints-torchtext.txt \
	  --editable '.[dev,torchtext]'
	@touch $@

environments: $(INSTALLED_DEV) $(TEXT_INSTALLED)

test-torchtext: $(TEXT_INSTALLED)
	FLAVA_TEST_TORCHTEXT="must run" $(TEXT_VENV)/bin/python -m pytest -m "not gpu and not soak" \
	  tests/torchtext_stack tests/recipes/test_resume.py $(addprefix tests/unit/test_,$(TEXT_TESTS))

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED_DEV)
	$(BIN)/mypy
	$(BIN)/pydoclint --quiet flava_plugin

# BENCH passes options on, such as BENCH="--size base --threads 1 --clock cpu".
bench: $(INSTALLED_DEV)
	$(BIN)/python -m tests.benchmarks.bench $(BENCH)

soak: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m soak -s

# The wheels fit machines with the same version of Python, kind of system and processor.
wheels: $(INSTALLED_DEV)
	@test -n "$(WHEELS)" || { echo "say make wheels WHEELS=dir"; exit 2; }
	$(BIN)/python -m pip freeze --quiet --exclude-editable \
	  | grep -viE '^(torch|torchvision|triton|nvidia[-a-z0-9]*|cuda[-a-z0-9]*)==' \
	  > $(VENV)/wheels.txt
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEELS) \
	  --requirement $(VENV)/wheels.txt

# torch comes from the machine, what else it lacks from $(WHEELS), this package from here. Names of
# wheels are compared with what is installed, so that the machine's own versions stay.
define LACKING
import re, sys
from importlib.metadata import distributions
from pathlib import Path
name = lambda text: re.sub("[-_.]+", "_", text).lower()
there = {name(each.name) for each in distributions()}
print(*(w for w in sys.argv[1:] if name(Path(w).name.split("-")[0]) not in there))
endef
export LACKING

gpu:
	@test -n "$(wildcard $(WHEELS)/*.whl)" || \
	  { echo "say make gpu WHEELS=dir, a folder that make wheels filled"; exit 2; }
	$(PYTHON) -m venv --system-site-packages $(GPU_VENV)
	wheels=$$($(GPU_VENV)/bin/python -c "$$LACKING" $(WHEELS)/*.whl) && \
	  { test -z "$$wheels" || \
	    $(GPU_VENV)/bin/python -m pip install --quiet --no-index --no-deps $$wheels; }
	$(GPU_VENV)/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation .
	$(GPU_VENV)/bin/python -m pytest -m gpu

clean:
	rm -rf $(VENV) $(GPU_VENV) $(TEXT_VENV) build dist .mypy_cache .ruff_cache .pytest_cache
	find flava_plugin tests -name __pycache__ -type d -prune -exec rm -rf {} +
