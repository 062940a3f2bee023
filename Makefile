# One command on a fresh machine: every target makes .venv itself when it is missing.
# Needs CPython 3.10-3.12 and pip; choose another interpreter with `make PYTHON=python3.12 setup`.
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11 python3.10,$(shell \
	$(p) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $(p))))
EXTRAS ?= dev,onnx,openvino,ncnn,serve
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup test check demo clean
setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "No CPython 3.10-3.12 found. Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	@touch $@

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(STAMP)
	rm -rf runs/demo
	$(BIN)/python config_farm/configuration_demo.py --output-dir runs/demo
	$(BIN)/python accuracy_evaluation/predict.py docs/examples --output-dir runs/demo/found

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
