# The two commands of a newcomer: `make demo` and `make test`. Every target makes .venv by itself.

PYTHON ?= python3
PROMPT ?= a large red circle on a blue background
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo serve test soak check bench clean

demo: $(READY)  ## start service and worker, make one picture of PROMPT, keep serving (ARGS=--exit ends)
	$(BIN)/safelight demo "$(PROMPT)" $(ARGS)

serve: $(READY)  ## start the service with its local worker
	$(BIN)/safelight serve $(ARGS)

test: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" $(ARGS)

soak: $(READY)  ## the slow runs: chaos and endurance
	$(BIN)/python -m pytest -m slow --timeout=3600 $(ARGS)

check: $(READY)  ## format, lint, types, and the walls between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## ratios against baselines measured in the same run
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove what the targets made
	rm -rf .venv build *.egg-info

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[worker,lora,dev]'
	touch $@
