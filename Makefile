# Everything a contributor runs. A fresh machine needs Python ≥ 3.11, make and git: the first target that needs
# packages makes .venv and fills it. Another Python: make test PYTHON=python3.13 VENV=.venv313

VENV ?= .venv
EXTRAS ?= dev,embedded,s3-embedded,media,fast
RUN = $(VENV)/bin/python
# Half of a test's time is waiting: twice as many at once as there are cores, at most 8. Who has nothing left takes from others.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
SIDE_BY_SIDE = -n $(shell expr 2 '*' $(CORES)) --maxprocesses 8 --dist worksteal
INSTALLED = $(VENV)/.installed
# Candidates are run, not only found: a version manager's shim may exist for a Python that does not.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help install demo test quick property check format docs bench peers clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with everything in it (the other targets do it by themselves)

demo: $(INSTALLED) ## run the video pipeline for real; again from nothing: make demo D=--no-cache
	@$(RUN) examples/pipelines/demo.py $(D)

test: $(INSTALLED) ## run all tests; some of them: make test T=tests/model
ifdef T
	@$(RUN) -m pytest $(T)
else
	@$(RUN) -m pytest -m "not fault and not story" $(SIDE_BY_SIDE)
	@$(RUN) -m pytest -m "fault or story" $(SIDE_BY_SIDE)
endif

quick: $(INSTALLED) ## run the tests but those that kill processes, play whole stories or search for planted bugs
	@$(RUN) -m pytest -m "not fault and not story and not planted" $(SIDE_BY_SIDE) $(T)

property: $(INSTALLED) ## play random histories against the model of flows: make property N=20000
	@N=$(or $(N),5000) $(RUN) -m pytest -q -o faulthandler_timeout=0 tests/property/test_histories.py

check: $(INSTALLED) ## lint, check types and layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright --pythonpath $(RUN)
	@$(VENV)/bin/lint-imports --no-cache

format: $(INSTALLED) ## let ruff sort imports and lay out the code
	@$(VENV)/bin/ruff check --fix --quiet .
	@$(VENV)/bin/ruff format .

docs: $(INSTALLED) ## write the tables of docs/reference anew from the code
	@$(RUN) -m tests.house.reference

bench: $(INSTALLED) ## measure flowq beside its peers, an hour or two; small and once: make bench B=--quick
	@$(RUN) -m benchmarks $(B)

peers: $(INSTALLED) ## install the peers of flowq, so that the tests of the benchmark's drivers run, too
	@$(RUN) -m benchmarks.install

clean: ## remove what the other targets made, the data in .flowq too
	@rm -rf .venv* .bench .flowq demo-output build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "flowq needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Installing into $(VENV) with $$($(PYTHON) --version): a minute or two, once." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -qq --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@
