# Everything that people and continuous integration run. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Debian 12 ships PostgreSQL 15, Debian 13 ships 17; on other systems name yours: make PG_MAJOR=16 PG_CONFIG=/path/to/pg_config
DEBIAN := $(shell sed -n 's/^VERSION_ID="\(.*\)"/\1/p' /etc/os-release)
PG_MAJOR ?= $(if $(filter 13,$(DEBIAN)),17,15)
PG_CONFIG ?= /usr/lib/postgresql/$(PG_MAJOR)/bin/pg_config
PGRX := $(shell sed -n 's/^pgrx = "=\(.*\)"/\1/p' Cargo.toml)
FEATURES := --no-default-features --features pg_keeper/pg$(PG_MAJOR)
# Places where the tests kill or stop the watcher; no other build has them.
TEST_FEATURES := $(FEATURES) --features pg-keeper-watcher/fault_points
FUZZ_SECONDS ?= 600
# The version before this one, 0.1.0, for `make upgrade`, and where it is built.
FROM ?= 88fd2ae9fa7116e66df956aff0ead6f003c278ad
PREVIOUS := $(abspath $(TARGET))/previous
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Built by cargo-deb of this version; `make deb` installs it where it is missing.
CARGO_DEB := 3.6.2
TARGET := $(or $(CARGO_TARGET_DIR),target)
PACKAGES := postgresql-$(PG_MAJOR) postgresql-server-dev-$(PG_MAJOR) libpq5 clang libclang-dev pkg-config iproute2 nftables systemd dbus polkitd

export PG_CONFIG
# cargo-pgrx has the linker keep what nothing uses, lest it drop what the SQL is made from, as some have on other machines than these. Here it
# does not, and if it ever did, installing would fail. Without the rest the library is half as large, and what is built for it serves the other
# builds as well.
ifeq ($(shell uname -m),x86_64)
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND := 1
endif

.PHONY: help deps verify fix build deb install install-old-objects test demo bench cycles upgrade lab lab-down matrix model fuzz clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## installs what is missing: Debian packages, cargo-pgrx
	@missing=$$(for package in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages:" $$missing; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  $(SUDO) apt-get update -qq; \
	  $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@if [ "$$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $(PGRX)" ]; then \
	  echo "installing cargo-pgrx $(PGRX), which takes some minutes"; \
	  cargo install --quiet --locked cargo-pgrx --version $(PGRX); \
	fi
	@if ! grep -qs 'pg$(PG_MAJOR) *= *"$(PG_CONFIG)"' $${PGRX_HOME:-$$HOME/.pgrx}/config.toml; then \
	  echo "telling cargo-pgrx about $(PG_CONFIG)"; \
	  cargo pgrx init --pg$(PG_MAJOR) $(PG_CONFIG) >/dev/null 2>&1; \
	fi

verify: deps ## format, lints and documentation, without changing a file
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets $(TEST_FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items $(FEATURES)

fix: deps ## format, and what the lints can mend by themselves
	cargo fmt --all
	cargo clippy --quiet --workspace --all-targets $(FEATURES) --fix --allow-dirty --allow-staged

build: deps ## the extension and the watcher, for production
	cargo build --release --workspace $(FEATURES)

deb: ## the watcher as a Debian package, into target/debian; looked at by lintian where that is installed
	@if [ "$$(cargo deb --version 2>/dev/null)" != "cargo-deb $(CARGO_DEB)" ]; then \
	  echo "installing cargo-deb $(CARGO_DEB), which takes some minutes"; \
	  cargo install --quiet --locked cargo-deb --version $(CARGO_DEB); \
	fi
	cargo build --quiet --release -p pg-keeper-watcher
	@mkdir -p $(TARGET)/release/package
	@cd $(TARGET)/release && ./pg-keeper-watcher man | gzip -9n > package/pg-keeper-watcher.8.gz
	@cd $(TARGET)/release && for part in bash:pg-keeper-watcher.bash zsh:_pg-keeper-watcher fish:pg-keeper-watcher.fish; do \
	  ./pg-keeper-watcher completions $${part%%:*} > package/$${part#*:}; \
	done
	@deb=$$(cargo deb --quiet --no-build -p pg-keeper-watcher); \
	if ! dpkg -c "$$deb" | awk '$$1 !~ /^d/ {print $$1, $$2, $$6}' | LC_ALL=C sort -k3 | diff watcher/packaging/contents -; then \
	  echo "$$deb holds something else than watcher/packaging/contents says; correct one of them" >&2; \
	  exit 1; \
	fi; \
	if command -v lintian >/dev/null; then lintian --allow-root --fail-on error,warning "$$deb"; fi; \
	echo "$$deb"

install: deps ## the extension into this machine's PostgreSQL
	@echo "installing pg_keeper into PostgreSQL $(PG_MAJOR); the first time that takes some minutes"
	@cd extension && said=$$(cargo pgrx install $(if $(SUDO),--sudo) $(INSTALL_FLAGS) --pg-config $(PG_CONFIG) --no-default-features --features pg$(PG_MAJOR) 2>&1) \
	  || { echo "$$said"; exit 1; }

# What tests of upgrades begin with.
install-old-objects:
	@$(SUDO) install -m 644 tests/upgrade/pg_keeper--0.1.0.sql "$$($(PG_CONFIG) --sharedir)/extension"

test: deps ## all tests, on real servers
	@$(MAKE) --no-print-directory install install-old-objects
	cargo build --quiet -p pg-keeper-watcher -p keeper-tests --features pg-keeper-watcher/fault_points
	cargo test --workspace $(TEST_FEATURES) --no-fail-fast

upgrade: deps ## a pair of two versions, and each one's library with the other's objects; FROM=revision
	@git cat-file -e $(FROM)^{commit} || { echo "this clone has no revision $(FROM); fetch the whole history (git fetch --unshallow)"; exit 1; }
	@$(MAKE) --no-print-directory install install-old-objects
	@rm -rf $(PREVIOUS)/source && mkdir -p $(PREVIOUS)/source
	@git archive $(FROM) | tar -x -C $(PREVIOUS)/source
	@echo "building pg_keeper as it was at $(FROM)"
	@cd $(PREVIOUS)/source && CARGO_TARGET_DIR=$(PREVIOUS)/build cargo build --quiet --locked -p pg_keeper $(FEATURES)
	PREVIOUS_LIBRARY=$(PREVIOUS)/build/debug/libpg_keeper.so cargo test -p keeper-tests --test upgrade -- --include-ignored

demo: deps ## a failover that you can watch; FAULT=kill, postmaster, freeze or return; FAST=1
	@$(MAKE) --no-print-directory install INSTALL_FLAGS=--release
	@cargo build --quiet --release -p pg-keeper-watcher -p keeper-tests
	@cargo run --quiet --release -p keeper-tests --bin demo

bench: deps ## how long each stage of a failover takes, and what the extension costs; N=10
	@$(MAKE) --no-print-directory install INSTALL_FLAGS=--release
	@cargo build --quiet --release -p pg-keeper-watcher -p keeper-tests
	@cargo run --quiet --release -p keeper-tests --bin bench

cycles: deps ## fault after fault, healed after each; N=50 FAULTS=return or all, SYNC=off, async or wait, SEED=number
	@$(MAKE) --no-print-directory install INSTALL_FLAGS=--release
	@cargo build --quiet --release -p pg-keeper-watcher -p keeper-tests
	@cargo run --quiet --release -p keeper-tests --bin cycles

lab: ## two database hosts and two application hosts in containers; PG_MAJOR=13, 15, 17 or 18, SYNC=off, async or wait
	@sh docker/lab.sh up

lab-down: ## removes them with all that they hold
	@sh docker/lab.sh down

# The laboratory's own SYNC is one of three, the matrix' may be a list of them.
matrix: ## every fault of a table on the laboratory, an hour; CASES=name,name SYNC=off,async,wait PART=ci, or RANDOM=200 SEED=number
	@SYNC= sh docker/lab.sh up
	@OUT=$${OUT:-$(TARGET)/matrix} cargo run --quiet --release -p keeper-tests --bin matrix

model: ## the model checker to a depth that takes minutes
	cargo test --release -p keeper-model -- --include-ignored --nocapture

fuzz: ## the edit of YAML files against any text, for ten minutes; FUZZ_SECONDS=number
	@if ! cargo fuzz --version >/dev/null 2>&1; then echo "installing cargo-fuzz"; cargo install --quiet --locked cargo-fuzz; fi
	@mkdir -p watcher/core/fuzz/corpus/edit
	cd watcher/core && RUSTC_BOOTSTRAP=1 cargo fuzz run edit fuzz/corpus/edit fuzz/seeds -- \
	  -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -timeout=10 -dict=fuzz/yaml.dict

clean: ## everything that was built here
	cargo clean
