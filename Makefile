# `make help` lists what there is to make. Everything that is built, fetched or generated goes to the
# user's cache folder, so that a second run is quick and a clone stays clean.
SHELL := /bin/bash
CACHE ?= $(or $(SLUICE_CACHE_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice)
export CARGO_TARGET_DIR ?= $(CACHE)/target
export SLUICE_CACHE_DIR := $(CACHE)
SF ?= 0.1
FUZZ_SECONDS ?= 60

.PHONY: help demo demo-stop demo-clean test fuzz lint bench cassandra cassandra-stop

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

demo: ## Build, start Cassandra and Sluice, load data, join both through psql; SF=1 for more data, SLUICE_CASSANDRA=host:port for your own nodes
	@sql-tests/prerequisites.sh cargo java maven psql
	@SF=$(SF) sql-tests/demo/demo.sh up

demo-stop: ## Stop the demo's service and nodes; the data stay
	@sql-tests/demo/demo.sh stop

demo-clean: ## Stop the demo and delete its data
	@sql-tests/demo/demo.sh clean

test: ## Run all tests, with real Cassandra nodes, executor processes and clients
	@sql-tests/prerequisites.sh cargo java maven psql python node go
	cargo build --workspace --locked
	cargo test --workspace --locked --no-fail-fast

lint: ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fuzz: ## Run the fuzz targets, FUZZ_SECONDS=60 each; needs a nightly compiler and cargo-fuzz (make test runs their corpus without)
	@cargo +nightly fuzz --version > /dev/null || { echo "make fuzz needs: rustup toolchain install nightly; cargo install cargo-fuzz" >&2; exit 1; }
	@for target in startup_packet messages copy_rows statements; do \
	  (cd server && env -u CARGO_TARGET_DIR cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS)) || exit 1; \
	done

bench: ## Measure Sluice beside DataFusion, DuckDB, the plain driver, Spark and Trino; ratios go to sql-tests/bench/results
	@sql-tests/prerequisites.sh cargo java maven psql python
	sql-tests/bench/bench.sh

cassandra: ## Start three Cassandra nodes on 127.0.0.1 to 127.0.0.3
	@sql-tests/prerequisites.sh java maven
	@sql-tests/cassandra/cluster.sh up 3

cassandra-stop: ## Stop those nodes; their data stay
	@sql-tests/cassandra/cluster.sh down
