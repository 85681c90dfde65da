# `make demo` and `make test` are all that a newcomer needs: Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DEMO_RESULTS := demo-results
DEMO_ARCHIVE := demo-archive

.PHONY: help demo test bench lint types unit format clean

help:
	@echo "make demo                  group a simulated archive, into $(DEMO_RESULTS)/"
	@echo "make demo ARCHIVE=path     the same for a real archive of DL3 data"
	@echo "make test                  lint, types and tests"
	@echo "make bench                 speed and memory against other ways, with figures"
	@echo "make format                reformat the code"
	@echo "make clean                 remove environment, caches and demo"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@ $(VENV)/.installed

ifdef ARCHIVE
DEMO_OPTIONS := --n-groups 2
else
ARCHIVE := $(DEMO_ARCHIVE)
DEMO_OPTIONS := --offset "0.5 deg" --n-groups 3
$(DEMO_ARCHIVE): | $(VENV)/.installed
	$(BIN)/obscluster simulate $@ --n-obs 60 --seed 1
demo: $(DEMO_ARCHIVE)
endif

demo: $(VENV)/.installed
	$(BIN)/obscluster info "$(ARCHIVE)"
	$(BIN)/obscluster group "$(ARCHIVE)" --energy "1 TeV" --features edisp-res psf-radius \
		$(DEMO_OPTIONS) --output $(DEMO_RESULTS) --overwrite
	@echo
	@echo "Results are in $(CURDIR)/$(DEMO_RESULTS); look at features.png, dendrogram.png and"
	@echo "conditions.png there, and at groups.yaml for what was done."

test: lint types unit

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

unit: $(VENV)/.installed-test
	$(BIN)/pytest --numprocesses auto

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/many_runs.py
	$(BIN)/python benchmarks/clustering.py
	$(BIN)/python benchmarks/information.py
	$(BIN)/python benchmarks/reduction.py

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO_RESULTS) $(DEMO_ARCHIVE) .mypy_cache .pytest_cache .ruff_cache .hypothesis
