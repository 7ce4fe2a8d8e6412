# Everything that a developer or CI runs; `make help` lists it. Neither root nor Docker is needed.

PYTHON ?= python3
JOBS ?= 2
comma := ,
empty :=
space := $(empty) $(empty)
# uv does not read pip's find-links: pass local wheels (a CPU build of torch, say) on to it.
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.installed
EXTRAS := cpu,embedded,dev
TORCH := 2.13.0
HEADER := \# Made by `make constraints`. Pins what CI installs; torch admits a local build such as $(TORCH)+cpu.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint chaos bench constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=python3.12   ARGS='-k corpus -x' (for pytest)   NAME=engine (for bench)"

install: $(STAMP) ## make .venv and install the project; again only after pyproject or pins change

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "scorefold needs Python 3.11 or newer, '$(PYTHON)' is: $$($(PYTHON) --version 2>&1);" \
	    "name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "could not make $(VENV); on Debian and Ubuntu the package python3-venv is needed" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'

$(STAMP): pyproject.toml constraints.txt | $(UV)
	$(UV) pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## score a night of made-up answers, from an empty database to a report
	$(BIN)/scorefold demo

test: $(STAMP) ## run the tests, two files at a time (JOBS=8: eight); ARGS='-m long' runs the long ones
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(STAMP) ## break everything for three minutes; SEED=7 DURATION_S=60 MUTANT=no_fence (which must fail)
	$(BIN)/python -m tests.chaos.adversary --seed $(or $(SEED),1) --duration $(or $(DURATION_S),180) \
	  $(if $(MUTANT),--mutant $(MUTANT))

bench: $(STAMP) ## measure; NAME=... picks benchmarks by name
	$(BIN)/pytest -m benchmark -s $(if $(NAME),-k '$(NAME)') $(ARGS)

# Resolved without local wheels, so that the pins are the same on every machine.
constraints: $(UV) ## resolve all pins anew into constraints.txt
	@echo 'torch==$(TORCH)' > $(VENV)/torch.txt
	env -u UV_FIND_LINKS $(UV) pip compile --quiet --universal --upgrade --no-header --no-annotate \
	  $(patsubst %,--extra %,$(subst $(comma), ,$(EXTRAS))) --constraint $(VENV)/torch.txt \
	  --output-file $(VENV)/resolved.txt pyproject.toml
	@{ echo '$(HEADER)'; sed -E -e '/^--find-links/d' -e 's/^torch==.*/torch==$(TORCH)/' $(VENV)/resolved.txt \
	  | uniq; } > $(VENV)/constraints.txt && mv $(VENV)/constraints.txt constraints.txt

clean: ## remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find scoring db workers migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +
