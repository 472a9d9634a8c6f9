# Two commands matter:  make book  (builds the HTML book)  and  make test  (proves it).
# Each sets up .venv by itself the first time. To use an environment of your own instead, in which
# nothing is installed:  make book PYTHON=python

VENV   := .venv
PYTHON := $(VENV)/bin/python
# The Python from which .venv is made: the first of these that is 3.11 or newer.
BASE_PYTHON := python3 python3.14 python3.13 python3.12 python3.11 python

ifeq ($(PYTHON),$(VENV)/bin/python)
SETUP := $(VENV)/.installed
else
SETUP :=
endif

# One thread a process: two processes then share two cores without fighting, and sums come out the same.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

.DEFAULT_GOAL := help
.PHONY: help setup book test run lint format mutants bench clean

help:
	@echo "make book     build the book into _build/html (first run installs everything into .venv)"
	@echo "make test     prove the book: style, build, tests of the library, every notebook's numbers"
	@echo "make run      execute the chapters again, in place   (CHAPTERS=\"book/mvae.ipynb ...\" for some, JOBS=1)"
	@echo "make lint     check style only                       (make format repairs what can be repaired)"
	@echo "make mutants  prove that the tests of the equations bite"
	@echo "make bench    time a training step, beside MultiVae where it is installed, as the work grows, and of each model"
	@echo "make clean    remove what was built (.venv and data stay)"

setup: $(SETUP)

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	@base=""; for p in $(BASE_PYTHON); do \
	  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base=$$p; break; fi; done; \
	if [ -z "$$base" ]; then \
	  echo "This book needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || echo none)."; \
	  echo "Install one, or name it:  make book BASE_PYTHON=/path/to/python3.12"; exit 1; fi; \
	echo "Setting up $(VENV) with $$($$base --version) (once, a few minutes, a few gigabytes)"; \
	$$base -m venv $(VENV) || { echo "python -m venv failed; on Debian and Ubuntu install python3-venv"; exit 1; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

book: $(SETUP)
	$(PYTHON) -c "from jupyter_book.cli.main import main; main()" build . --all -W --keep-going -n
	$(PYTHON) book/_tools/offline.py _build/html
	@echo "The book: $(CURDIR)/_build/html/index.html"

test: lint book
	$(PYTHON) -m pytest --nbval --nbval-current-env -n 2 --dist loadfile --durations=10

CHAPTERS := book/*.ipynb
JOBS     := 2
run: $(SETUP)
	$(PYTHON) book/_tools/run.py --jobs $(JOBS) $(CHAPTERS)

lint: $(SETUP)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: $(SETUP)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

mutants: $(SETUP)
	$(PYTHON) tests/mutants.py

bench: $(SETUP)
	$(PYTHON) tests/bench.py
	$(PYTHON) tests/bench.py --growth
	$(PYTHON) tests/bench.py --models

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis mmlib.egg-info
	find mmlib tests book -name __pycache__ -type d -prune -exec rm -rf {} +
