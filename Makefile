# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make bench   the benches
# make fuzz    what tests invent, CASES times (100000); hostile servers one in sixteen of that

CASES ?= 100000

.PHONY: setup test lint bench fuzz

setup:
	@.ci/setup

test: setup
	cargo test --workspace --all-features --exclude redlock-cli
	cargo test --package redlock-cli # with the features it is shipped with
	cargo test --package redlock-core --test release # what a drop does depends on no feature

lint:
	@.ci/lint

bench: setup
	cargo bench --workspace

fuzz: export PROPTEST_CASES = $(CASES)
fuzz: setup
	cargo test --package redlock-core --test fuzz
	cargo test --package redlock-sentinel --lib fuzz
	cargo test --package redlock-cli --bins fuzz
	cargo test --package tests --test hostile
