PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: run test lint docs notebook bench clean

run: .venv/installed  ## compress the embedded digits CNN; ARGS="STUDY.toml --trials 500" for others
	$(BIN)/python -m lrf_optuna run $(ARGS)

test: .venv/tested lint  ## lint, types and tests
	$(BIN)/python -m pytest -n auto

lint: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/tested  ## the reference of the public names, in build/docs
	$(BIN)/python benchmarks/pages/reference.py

notebook: .venv/tested  ## run studies/compress.ipynb again, and keep its outputs
	$(BIN)/python benchmarks/pages/notebook.py

bench: .venv/installed  ## the tables of benchmarks/README.md, in some hours; needs the models and data beside the project
	for name in coverage/kinds coverage/heads coverage/networks quality/search quality/compare quality/proxy quality/methods quality/refit quality/calibrate quality/tune quality/after_tuning quality/ablation quality/headline coverage/architectures cost/latency cost/runtimes cost/large cost/memory cost/trial_cost cost/long cost/recording cost/run cost/epoch cost/grouped; do $(BIN)/python benchmarks/$$name.py || exit 1; done

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lrf_optuna needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]' --constraint constraints.txt
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
