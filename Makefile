# Two commands do everything on a fresh machine: `make demo` and `make test`. Both go through `make setup`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2

.PHONY: setup demo test test-all check format bench clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml tools/setup.sh
	PYTHON="$(PYTHON)" bash tools/setup.sh "$(VENV)"
	@touch $@

demo: setup
	@bash examples/demo.sh "$(BIN)/sortal"

# Engines of others leave things behind in a process (OpenVINO a signal stack of its own), and tests that call them directly
# shall not share one with tests that send Ctrl-C.
ENGINES := tests/registries/test_artifacts.py tests/registries/test_engines.py tests/unit/export

test: setup
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ENGINES)
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ENGINES:%=--ignore=%)

test-all: setup
	$(BIN)/python -m pytest -n $(JOBS) $(ENGINES)
	$(BIN)/python -m pytest -n $(JOBS) $(ENGINES:%=--ignore=%)

check: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

bench: setup
	@echo "Every figure in benchmarks/RESULTS.md stands beside the command that measured it; run one, for example:"
	@echo "  $(BIN)/python benchmarks/command_to_report.py path/to/images --card path/to/card.yaml --peer"

clean:
	rm -rf $(VENV) demo
