# `make` or `make help` lists what there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test bench build

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, then hear a call to the offline attendant: conversation, latency, demo/call.wav
	@scripts/install-demo-tools.sh
	cargo build --locked --release --package tandem
	target/release/tandem demo --dir demo

test: ## Install what is missing, then run everything that CI runs
	@scripts/install-test-tools.sh
	@scripts/test.sh

bench: ## The cost of one frame (ns, allocations), then the latency added to each of 100 calls
	@scripts/install-build-tools.sh
	cargo bench --locked --package tandem-benches
	cargo build --locked --release --package tandem
	target/release/tandem bench

build: ## The daemon as target/release/tandem
	@scripts/install-build-tools.sh
	cargo build --locked --release --package tandem
