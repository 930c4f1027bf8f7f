# `make` or `make help` lists what there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test test-freeswitch bench quality quality-vad build

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, then hear a call to the offline attendant: conversation, latency, demo/call.wav
	@scripts/install-demo-tools.sh
	cargo build --locked --release --package tandem
	target/release/tandem demo --dir demo

test: ## Install what is missing, then run everything that CI runs
	@scripts/install-test-tools.sh
	@scripts/test.sh

test-freeswitch: ## The live tests against the FreeSWITCH whose event socket is TANDEM_FREESWITCH=host:port; skipped without
	@scripts/test-freeswitch.sh

bench: ## The cost of one frame (ns, allocations), then the latency added to 100 SIP calls and to 200 forked ones
	@scripts/install-build-tools.sh
	cargo bench --locked --package tandem-benches
	cargo build --locked --release --package tandem
	target/release/tandem bench
	target/release/tandem bench --fork

quality: ## Install what is missing, then measure the sound: codecs, loss, noise, seams, echo, resampler; fails when it became worse
	@scripts/install-quality-tools.sh
	@scripts/quality.sh

quality-vad: ## Compare voice activity detectors on callers in noise, and write the tables into docs/audio.md
	@scripts/install-quality-tools.sh
	cargo run --locked --release --manifest-path quality/vad/Cargo.toml --target-dir target/quality-vad -- target/quality-vad/speech docs/audio.md

build: ## The daemon as target/release/tandem
	@scripts/install-build-tools.sh
	cargo build --locked --release --package tandem
