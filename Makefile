# `make demo`, `make test`, `make ui` work on a bare machine with Python 3.11 or newer: everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)
BENCH_STAMP := $(subst .installed,.bench-installed,$(STAMP))

.PHONY: demo test lint ui bench clean

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@rm -f $(VENV)/.installed-*; touch $@

$(BENCH_STAMP): $(STAMP)
	@echo "installing what the bench compares with (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@rm -f $(VENV)/.bench-installed-*; touch $@

demo: $(STAMP)
	@$(BIN)/ledger-pipeline demo

test: lint
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup --timeout 300

lint: $(STAMP)
	@$(BIN)/ruff check ledger_pipeline ledger_pipeline_tests
	@$(BIN)/ruff format --check ledger_pipeline ledger_pipeline_tests
	@$(BIN)/mypy ledger_pipeline

ui: $(STAMP)
	@$(BIN)/ledger-pipeline dev

bench: $(BENCH_STAMP)
	@$(BIN)/python -m ledger_pipeline_tests.bench $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) .ledger build *.egg-info .pytest_cache .mypy_cache .ruff_cache
