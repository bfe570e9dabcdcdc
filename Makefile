# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make bench   the benches
# make chaos   real servers under faults for MINUTES, with a restart guard, without, and with fencing tokens
# make chaos-rslock   the same faults for clients of the crate rslock

.PHONY: setup test lint bench chaos chaos-rslock

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

MINUTES = 3

chaos: setup
	cargo run --release --package redlock-chaos -- --minutes $(MINUTES)

chaos-rslock: setup
	cargo build --release --package benches --bin chaos-rslock
	cargo run --release --package redlock-chaos -- --minutes $(MINUTES) --client target/release/chaos-rslock
