# make leaderboard   install, run eight methods on both tasks (METHODS=default: all), render the page, print its path
# make test          install, run the tests
# make board         the committed board: all methods on studio, studio-confirm and magento-luma; results/ and site/
# make speed         the speed measurements of tests/speed, one after the other
# make lint          ruff
#
# Settings: PYTHON=python3.12 (to create .venv), THREADS=2 (of numerical libraries), ARGS="-k transport" (for pytest),
# METHODS="bm25 mean_pooling" (of make leaderboard), JOBS=2 (processes of make test, runs that make board makes at a
# time: each with one thread)
# Searches of settings and studies are commands of their own and no part of the board: ftbench --help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
THREADS ?= 2
ARGS ?=
JOBS ?= 2
METHODS ?= random bm25 single_view_clip mean_pooling mean_pooling_all_views factorized_transport \
	factorized_transport_cached oracle

# the first Python on the path that is recent enough
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

# one thread setting, because the last digits of a run depend on it
export OMP_NUM_THREADS := $(THREADS)
export OPENBLAS_NUM_THREADS := $(THREADS)
export MKL_NUM_THREADS := $(THREADS)

TASKS := --task query2item --task cross_view
ALL := --method default $(TASKS) --seed 0 --seed 1 --seed 2 --jobs $(JOBS) --results results

.PHONY: help install leaderboard test board speed lint
.DELETE_ON_ERROR:

help:
	@sed -n '1,10s/^# \{0,1\}//p' Makefile

install: $(STAMP)

# The stamp is written last: an interrupted installation is taken up again, and a half-made .venv is made anew.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "ftbench needs Python 3.11 or later; found: $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." \
		     "Type: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV): about 3 GB of downloads, some minutes."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[lite,dev]'
	@touch $@

leaderboard: $(STAMP)
	$(BIN)/ftbench run $(addprefix --method ,$(METHODS)) $(TASKS) --data studio --seed 0 --results build/results
	$(BIN)/ftbench report --results build/results --site build/site
	@echo "The leaderboard: $(CURDIR)/build/site/index.html"

# Several processes share the cores: one thread each. A file's tests stay together, as they share what they prepare.
test: export OMP_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

# Stopped at any moment, it goes on where it was. Several runs at a time share the cores: one thread each.
board: export OMP_NUM_THREADS := 1
board: export OPENBLAS_NUM_THREADS := 1
board: export MKL_NUM_THREADS := 1
board: $(STAMP)
	$(BIN)/ftbench run $(ALL) --data studio --data studio-confirm --data magento-luma
	$(BIN)/ftbench run $(ALL) --data studio --board equal-steps
	$(BIN)/ftbench rescore --results results
	$(BIN)/ftbench data bundle studio --results results
	$(BIN)/ftbench report --results results --site site

speed: $(STAMP)
	@failed=0; for f in tests/speed/*.py; do \
		if [ -f "$$f" ]; then echo "== $$f"; $(BIN)/python "$$f" || failed=1; fi; done; exit $$failed

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check --quiet .
