# The one front door of commands, the same on a laptop and in CI. Each target does its own set-up (scripts/setup.sh).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help test lint format demo demo-embedded drills drills-short soak nightly bench bench-failover budget history crash long simulate clean

PYTHON_IN_VENV := .venv/bin/python
SETUP_INPUTS := pyproject.toml constraints.txt scripts/setup.sh
# Folders that hold Python by now; a part that has no content yet has no folder yet.
PYTHON_FOLDERS := $(patsubst %/,%,$(sort $(dir $(wildcard src/*/__init__.py))) \
	$(foreach folder,tests bench scripts examples,$(if $(shell find $(folder) -name '*.py' 2>/dev/null | head -1),$(folder))))
# What to run of the tests, for instance: make test TESTS=tests/unit
TESTS ?= tests

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

test: lint ## lint, then the unit, property, integration and end-to-end tests
	@$(PYTHON_IN_VENV) -m pytest --numprocesses 2 --dist loadfile $(TESTS)

lint: .venv/.ready-dev ## check format, rules, types and import contracts
	@$(PYTHON_IN_VENV) -m ruff format --check --quiet . || { echo "lint: run 'make format'"; exit 1; }
	@$(PYTHON_IN_VENV) -m ruff check --quiet .
	@$(PYTHON_IN_VENV) -m mypy $(PYTHON_FOLDERS)
	@.venv/bin/lint-imports --no-logo

format: .venv/.ready-dev ## put the code in form, and repair what the linter can
	@$(PYTHON_IN_VENV) -m ruff check --fix-only --quiet .
	@$(PYTHON_IN_VENV) -m ruff format .

demo: .venv/.ready-run ## replay a bank's books into a whole platform, kill three times, prove that nothing is lost (BOOKS=dir: real ones)
	@$(if $(BOOKS),BOOKS="$(BOOKS)",env -u BOOKS) $(PYTHON_IN_VENV) -m fivenines.drill.demo

demo-embedded: .venv/.ready-run ## the same with one process, killed twice
	@$(if $(BOOKS),BOOKS="$(BOOKS)",env -u BOOKS) $(PYTHON_IN_VENV) -m fivenines.drill.demo --embedded

bench: .venv/.ready-bench ## measure us and PostgreSQL side by side
	@$(PYTHON_IN_VENV) -m bench

bench-failover: .venv/.ready-bench ## measure failover beside PostgreSQL with Patroni, as root (TRIALS=3 of each fault)
	@$(PYTHON_IN_VENV) -m bench.failover --trials $(or $(TRIALS),3)

budget: .venv/.ready-bench ## fill a journal in etcd at full speed for ten minutes, and judge it (MINUTES=60 for an hour)
	@$(PYTHON_IN_VENV) -m bench.budget --minutes $(or $(MINUTES),10)

drills: .venv/.ready-run ## carry out the whole catalogue of drills; as root regions are cut off, too (RATE=100 a second, SEED=1)
	@$(PYTHON_IN_VENV) -m fivenines drill run --all --rate $(or $(RATE),100) --seed $(or $(SEED),1)

drills-short: .venv/.ready-run ## its short form: every guarantee, in minutes
	@$(PYTHON_IN_VENV) -m fivenines drill run --all --short --rate $(or $(RATE),100) --seed $(or $(SEED),1)

soak: .venv/.ready-run ## let random faults happen, up to two at once (MINUTES=10, SEED=1, RATE=100)
	@$(PYTHON_IN_VENV) -m fivenines drill soak --minutes $(or $(MINUTES),10) --rate $(or $(RATE),100) --seed $(or $(SEED),1) \
		--out build/soak

nightly: drills soak long ## what is worth a night: the whole catalogue, a soak, the long tests

history: .venv/.ready-dev ## keep history for ten minutes under load, kill what keeps it, restore from it (MINUTES=60 for an hour)
	@$(PYTHON_IN_VENV) -m fivenines.drill.history --minutes $(or $(MINUTES),10)

crash: .venv/.ready-dev ## kill and damage for longer than `make test` does
	@FIVENINES_CRASH_FACTOR=10 $(PYTHON_IN_VENV) -m pytest -m crash --timeout 3600 $(TESTS)

long: .venv/.ready-dev ## the tests that `make test` leaves out because they take minutes each
	@$(PYTHON_IN_VENV) -m pytest -m long $(TESTS)

simulate: .venv/.ready-run ## live many fleets on virtual time (COUNT=20000 of them, from SEED=0 on)
	@$(PYTHON_IN_VENV) -m fivenines.drill.simulation --seed $(or $(SEED),0) --count $(or $(COUNT),20000)

clean: ## remove what the other targets made, .venv included
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.ready-%: $(SETUP_INPUTS)
	@scripts/setup.sh $*
