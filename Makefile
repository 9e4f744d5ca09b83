# `make demo` shows Tandem at work; `make test` and `make check` are what CI runs. Each sets itself up in .venv.

PYTHON ?= python3
BIN := .venv/bin

# torch is for training and for tests: the demo installs none. It must come through constraints.txt.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# All tests: two processes more than there are cores, since many wait for servers and other processes; tests that share a
# server or a browser share a process, and begin first (tests/conftest.py). Tests start hundreds of Pythons: compiled
# files are kept, whatever the environment says.
CORES := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell echo $$(( $(CORES) + 2 )))
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --dist loadgroup --no-loadscope-reorder

.PHONY: demo test quick check format docs bench clean

demo: .venv/.demo
	$(BIN)/tandem demo

test: .venv/.dev
	$(PYTEST) -n $(WORKERS)

# For every day: no servers, browsers, Ray or kill loops. These tests wait for nothing, and each process imports torch.
quick: .venv/.dev
	$(PYTEST) -n $(CORES) -m 'not (server or browser or milvus or s3 or ray or kill or slow)'

check: .venv/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_import_circles.py tests/test_doors.py

format: .venv/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Renews what is generated, then builds the site in build/site; a link that leads nowhere is an error.
docs: .venv/.dev
	$(BIN)/python docs/refresh.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Tandem beside its peers, on an idle machine: docs/benchmarks.md. `make bench ROWS=images,files` measures these rows anew;
# BENCH=--trial shows on any machine that all works. Peers are installed beside Tandem, never with it.
bench: | $(BIN)/python
	@PYTHONPATH=src $(BIN)/python bench/comparison/idle.py $(BENCH)
	@$(MAKE) --no-print-directory .venv/.dev .venv-bench/.done .venv-bench-openvino/.done
	$(BIN)/python bench/benchmark.py --rows '$(ROWS)' $(BENCH)

clean:
	rm -rf .venv .venv-bench .venv-bench-openvino build dist .mypy_cache .ruff_cache .pytest_cache src/*.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tandem needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[demo]'
	touch $@

# Tests are compiled here once; the processes that run them would each do it.
.venv/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	-$(PYTEST) -qq --collect-only > /dev/null
	touch $@

.venv-bench/.done: bench/peers.txt constraints.txt
.venv-bench-openvino/.done: bench/peers-openvino.txt constraints.txt
.venv-bench/.done .venv-bench-openvino/.done:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch setuptools
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@
