# Every command of the repository. Each sets up what it needs; `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PRECIOUS: build/venv-%/.packages
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

# The first one found runs .venv; `make test` runs on all that are found.
VERSIONS := 3.11 3.12 3.13
# An older pip has no --group.
PIP := pip==26.3
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
BOTS := $(TARGET)/release/photinus-bots
CLIENTS := tests/clients/pomelo
RUST := $(shell find crates -name '*.rs' -o -name '*.toml') Cargo.toml Cargo.lock
LOCKED := $(if $(CI),--locked)
RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
SECONDS ?= 30
SEEDS ?= 200
ROW ?= *
CASES ?= all
# Tests wait for half of their time: for processes, and for what must not come.
WORKERS = $(shell echo $$((2 * $$(nproc))))
PYTEST = pytest -n $(WORKERS) --dist worksteal
# The oldest that Rust's own library runs on (glibc 2.17): every Linux that still gets updates.
MANYLINUX := manylinux2014

# $(call python,3.12): the path of such a Python with venv, or nothing. A name on PATH is not enough: pyenv leaves names
# there that refuse to run, and Debian packs venv separately.
python = $(shell for p in python$(1) "$$(pyenv root 2>/dev/null)"/versions/$(1).*/bin/python$(1); do \
	"$$p" -c 'import ensurepip, sys, venv; sys.version_info[:2] == ($(subst .,$(comma),$(1))) or sys.exit(1); print(sys.executable)' \
	2>/dev/null && break; done)
comma := ,
# Python for a new .venv: what PYTHON names, else the oldest tested version at hand, else a newer one.
MAIN = $(firstword $(if $(PYTHON),$(shell command -v $(PYTHON))) $(foreach v,$(VERSIONS),$(call python,$v)) \
	$(shell python3 -c 'import ensurepip, sys, venv; sys.version_info > (3, 11) or sys.exit(1); print(sys.executable)' 2>/dev/null))
MAIN_VERSION = $(shell .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# Autobahn's tests of WebSocket were never brought to a later one.
PYTHON2 = $(shell for p in python2.7 "$$(pyenv root 2>/dev/null)"/versions/2.7.*/bin/python2.7; do \
	"$$p" -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)

# $(call skipped,WHAT): says what is not at hand.
skipped = echo "== SKIPPED: $(1)"; $(if $(CI),echo "CI=true allows no skips"; exit 1;)
# $(call absent,3.12): the same of a Python.
absent = $(call skipped,no Python $(1) with venv on PATH or under pyenv: pyenv install $(1))

# The TypeScript client is built and tested where there is a Node.js that it runs on.
CLIENT := clients/typescript
PAGE := python/photinus/ops/playground/page
NODE_VERSION := $(shell sed -n 's/.*"node": ">=\(.*\)".*/\1/p' $(CLIENT)/package.json)
NODE = $(shell node -e 'process.exit(parseInt(process.versions.node) < $(NODE_VERSION) ? 1 : 0)' 2>/dev/null && command -v npm)
# $(call client,SCRIPT): npm's script of this name; it says so where there is no Node.js.
client = $(if $(NODE),$(MAKE) -s --no-print-directory $(CLIENT)/node_modules/.package-lock.json; echo "== $(CLIENT): npm run $(1)"; \
	cd $(CLIENT) && npm run --silent $(1),$(no-node))
no-node = $(call skipped,no Node.js >= $(NODE_VERSION) with npm on PATH: apt-get install nodejs npm)

# $(call install,FOLDER,PYTHON,GROUP)
define install
	@echo "== $(1): packages for $$("$(2)" --version)"
	@"$(2)" -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --upgrade $(PIP)
	@$(1)/bin/python -m pip install --quiet --group $(3)
	@touch $@
endef

# $(call seeded,CARGO TARGET FOLDER): what does not depend on Python's version, as the main version's build has made it. Compiling
# the C in it (TLS, zstd) anew takes a minute.
seeded = [ -e $(1) ] || [ ! -d $(TARGET)/release/deps ] || { mkdir -p $(1)/release && cp -a $(TARGET)/release/. $(1)/release/; }

# $(call engine,FOLDER,CARGO TARGET FOLDER): the optimised engine, importable from FOLDER's Python
define engine
	@echo "== $(1): engine"
	@$(call seeded,$(2))
	@env -u CONDA_PREFIX VIRTUAL_ENV="$(abspath $(1))" $(1)/bin/maturin develop --quiet --release $(LOCKED) --target-dir $(2) >/dev/null
	@touch $@
endef

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# On a terminal the demo is a job of its own, so that Ctrl-C reaches it and not make, and the exit code is the demo's.
demo: setup $(BOTS) ## a chat-and-walk world with 200 bots and a live table; Ctrl-C or DEMO_SECONDS=10 ends it
	@[ ! -t 0 ] || set -m; .venv/bin/python -m examples.chat --bots $(BOTS); exit

test: setup clients test-rust test-loom test-client test-others test-websocket ## the tests: Rust, loom's models, TypeScript, Python on every version at hand
	@echo "== pytest on $(MAIN_VERSION)"
	.venv/bin/$(PYTEST)

conformance: setup ## Autobahn's tests of WebSocket, all or [CASES=quick] without compression; all: docs/conformance.md
	@$(if $(PYTHON2),$(MAKE) --no-print-directory build/autobahn/.packages,$(call skipped,no Python 2.7 for Autobahn: pyenv install 2.7.18))
	$(if $(PYTHON2),.venv/bin/python -m tests.conformance build/autobahn/bin/wstest --cases $(CASES))

simulate: tools ## clusters in one process against a model: [SEEDS=200] of them, or one [SEED=17] step by step
	@cargo run --quiet -p photinus-simulation $(LOCKED) -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

bench: setup $(BOTS) ## the benchmarks [ROW=glob]: one table, and build/bench.json
	.venv/bin/python -m bench --bots $(BOTS) --row '$(ROW)'

plots: setup ## the plots of what `make bench` measured last, into docs/
	.venv/bin/python -m bench --draw docs

wheels: build/venv-wheels/.packages tools ## manylinux wheels for each Python at hand, in build/wheels, each tried where there is no Rust
	@$(foreach v,$(VERSIONS),$(if $(call python,$v),,$(call absent,$v)))
	@rm -rf build/wheels
	@echo "== wheels: $(MANYLINUX)"
	@PATH="$(abspath build/venv-wheels/bin):$$PATH" maturin build --quiet --release $(LOCKED) --zig --compatibility $(MANYLINUX) \
		--out build/wheels --target-dir build/target-wheels $(foreach v,$(VERSIONS),$(addprefix -i ,$(call python,$v)))
	@$(foreach v,$(VERSIONS),$(if $(call python,$v),build/venv-wheels/bin/python tests/wheels/try_wheel.py $(call python,$v) build/wheels;))

setup: .venv/.engine ## .venv with the optimised engine in it

.PHONY: help demo test conformance simulate bench plots wheels setup clients playground lint fmt fuzz clean tools test-rust test-loom test-client test-others test-websocket

test-rust: export PYO3_PYTHON := $(abspath .venv/bin/python)
test-rust: tools
	@echo "== cargo test"
	cargo test --quiet --workspace --exclude photinus-native $(LOCKED)   # native is tested through Python

# Unbounded, two producers take hours. Loom's own advice is that two or three preemptions find nearly all that there is.
test-loom: tools
	@echo "== loom"
	LOOM_MAX_PREEMPTIONS=5 cargo test --quiet -p photinus-engine --features loom --test loom $(LOCKED)

# Before Python's tests, which play with what is built here.
test-client:
	@$(if $(NODE),$(MAKE) -s --no-print-directory $(CLIENT)/dist/photinus.js; $(call client,test),$(no-node))
	@$(if $(NODE),$(call page,cmp -s) || { echo "$(PAGE): not what $(CLIENT) builds: make playground" >&2; exit 1; })

# The browser's client that the playground's page uses, with the licenses of what is in it. It is in the repository, since
# neither the wheel nor `make setup` may need Node.js.
playground: ## the TypeScript client for the page of `photinus dev`, after an edit of it
	@$(if $(NODE),$(MAKE) -s --no-print-directory $(CLIENT)/dist/photinus.js; $(call page,cp),$(no-node))

# $(call page,COMMAND): runs it on each built file and its place in the page's folder.
page = { cat $(CLIENT)/node_modules/@msgpack/msgpack/LICENSE $(CLIENT)/node_modules/fflate/LICENSE > $(CLIENT)/dist/photinus.js.LICENSE && \
	$(1) $(CLIENT)/dist/photinus.js $(PAGE)/photinus.js && $(1) $(CLIENT)/dist/photinus.js.LICENSE $(PAGE)/photinus.js.LICENSE; }

# Each other version has its own environment and its own cargo folder, so that no build undoes another. What no other Python
# changes is tested with the main one: other languages' clients, processes on a network, the benchmark.
OTHERS := $(addprefix --ignore tests/,bench clients conformance integration)
test-others: setup
	@$(foreach v,$(filter-out $(MAIN_VERSION),$(VERSIONS)),$(if $(call python,$v),\
		$(MAKE) --no-print-directory build/venv-$v/.engine; echo "== pytest on $v"; build/venv-$v/bin/$(PYTEST) $(OTHERS);,\
		$(call absent,$v)))

test-websocket:
	@echo "== conformance of WebSocket"
	@$(MAKE) --no-print-directory conformance CASES=quick

# Clients of others that the tests run, in Node.js and in a browser.
clients:
	@$(if $(shell command -v npm),$(MAKE) --no-print-directory $(CLIENTS)/node_modules/.package-lock.json,\
		$(call skipped,no npm for the clients of $(CLIENTS): apt-get install nodejs npm))

lint: setup .venv/.lint tools ## every linter and type checker
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/lint-imports
	.venv/bin/stubtest photinus._native
	cargo fmt --check
	PYO3_PYTHON=$(abspath .venv/bin/python) cargo clippy --quiet --workspace --all-targets $(LOCKED) -- -D warnings
	@$(call client,lint)
	@$(call free,photinus-proto,pyo3|mio|tokio)
	@$(call free,photinus-engine,pyo3|tokio)
	@! cargo tree --quiet -p photinus-native --edges normal,features $(LOCKED) | grep -wE 'planted|loom' || { echo "what is for tests must not be shipped"; exit 1; }

# $(call free,CRATE,NAMES): CRATE depends on none of NAMES, however far down. What has no sockets or no Python stays so.
free = tree=$$(cargo tree --quiet -p $(1) --edges normal --prefix none $(LOCKED)); \
	! grep -E '^($(2))[ -]' <<< "$$tree" || { echo "$(1) must not depend on the above"; exit 1; }

fmt: .venv/.lint tools ## format Python, Rust and TypeScript
	.venv/bin/ruff check --quiet --fix-only .
	.venv/bin/ruff format .
	cargo fmt
	@$(call client,fmt)

fuzz: tools ## fuzz the codecs and layers for SECONDS=30 in all
	fuzz/run $(SECONDS)

clean: ## remove everything that was built
	rm -rf .venv build target fuzz/target $(CLIENTS)/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f python/photinus/_native.*.so
	rm -rf $(CLIENT)/node_modules $(CLIENT)/dist $(CLIENT)/build

# What may be presumed, named in one line where it is missing.
tools:
	@fail() { echo "photinus: $$1" >&2; exit 1; }; \
	command -v cc >/dev/null || fail "a C compiler is missing: apt-get install build-essential"; \
	command -v cargo >/dev/null || fail "Rust >= $(RUST_VERSION) is missing: apt-get install rustup && rustup default stable"; \
	have=$$(rustc --version | cut -d ' ' -f 2); \
	[ "$$(printf '%s\n' "$(RUST_VERSION)" "$$have" | sort -V | head -n 1)" = "$(RUST_VERSION)" ] \
		|| fail "Rust >= $(RUST_VERSION) is needed, $$have is there: rustup update stable"; \
	[ -e .venv/.packages ] || [ -n "$(MAIN)" ] \
		|| fail "Python >= 3.11 with venv is missing: apt-get install python3 python3-venv"

.venv/.packages: pyproject.toml | tools
	$(call install,.venv,$(MAIN),test)

.venv/.lint: .venv/.packages
	.venv/bin/python -m pip install --quiet --group lint
	@touch $@

.venv/.engine: .venv/.packages $(RUST)
	$(call engine,.venv,$(TARGET))

# What a package would run as it is installed is not run: none of these needs it.
$(CLIENT)/node_modules/.package-lock.json: $(CLIENT)/package.json $(CLIENT)/package-lock.json $(CLIENT)/.npmrc
	@echo "== $(CLIENT): packages for Node.js $$(node --version)"
	@cd $(CLIENT) && npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

# All of dist; this is made last.
$(CLIENT)/dist/photinus.js: $(CLIENT)/node_modules/.package-lock.json $(wildcard $(CLIENT)/src/*.ts) $(wildcard $(CLIENT)/tsconfig*.json)
	@echo "== $(CLIENT): build"
	@cd $(CLIENT) && rm -rf dist && npm run --silent build

build/venv-wheels/.packages: pyproject.toml | tools
	$(call install,build/venv-wheels,$(MAIN),wheels)

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json
	@echo "== $(CLIENTS)"
	@cd $(CLIENTS) && npm ci --ignore-scripts --silent
	@touch $@

build/venv-python2/.packages: pyproject.toml | tools
	$(call install,build/venv-python2,$(MAIN),python2)

build/autobahn/.packages: tests/conformance/requirements.txt build/venv-python2/.packages
	@echo "== build/autobahn: packages for Python 2.7"
	@build/venv-python2/bin/virtualenv --quiet --clear --python "$(PYTHON2)" build/autobahn
	@build/autobahn/bin/python -W ignore -m pip install --quiet --no-python-version-warning -r $<
	@touch $@

build/venv-%/.packages: pyproject.toml
	$(call install,build/venv-$*,$(call python,$*),test)

build/venv-%/.engine: build/venv-%/.packages $(RUST)
	$(call engine,build/venv-$*,build/target-$*)

$(BOTS): $(RUST) | tools
	cargo build --quiet --release -p photinus-bots $(LOCKED)
	@touch $@
