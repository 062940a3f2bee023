# One command on a fresh machine: every target makes .venv itself when it is missing.
# Needs CPython 3.10-3.12, because MXNet is part of it, and pip; choose another interpreter with `make PYTHON=python3.12 setup`.
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11 python3.10,$(shell \
	$(p) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $(p))))
EXTRAS ?= mxnet,dev,openvino,ncnn,heic,video,serve
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup test check demo docs clean
setup: $(STAMP)

$(STAMP): pyproject.toml setup.py
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

docs: $(STAMP)
	$(BIN)/mkdocs build --quiet --site-dir site

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
