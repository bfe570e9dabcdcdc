# make setup     install what the tests need
# make test      all tests, on real servers
# make lint      formatting, clippy on every feature alone, documentation, dependencies
# make bench     the benches; tables and plots in benches/results
# make bench-quick         ratios alone, in a minute once built
# make bench-instructions  instructions per cycle, by valgrind
#
# More of what the tests do in small:
# make model     every configuration of the model, one line each; MODEL=large: larger ones, MODEL=name: with its steps
# make simulate  SEEDS=100000 histories of the core with faults, FROM=0
# make mutants   whether the simulation notices that the core is broken
# make chaos     real servers under faults for MINUTES=3, with a restart guard, without, and with fencing tokens
# make chaos-rslock   the same faults for clients of the crate rslock
# make fuzz      CASES=100000 of what tests invent; a hostile server once in 100 cases

SEEDS = 100000
FROM = 0
MINUTES = 3
CASES = 100000

.PHONY: setup test lint bench bench-quick bench-instructions model simulate mutants chaos chaos-rslock fuzz

setup:
	@.ci/setup

# Most of them wait for servers.
test: export RUST_TEST_THREADS ?= 4
test: setup
	cargo test --workspace --all-features --exclude redlock-cli
	cargo test --package redlock-cli # with the features it is shipped with
	cargo test --package redlock-core --test release # what a drop does depends on no feature

lint:
	@.ci/lint

bench: setup
	cargo bench --workspace --bench '*'

bench-quick:
	@cargo bench --quiet --package benches --bench locks -- quick

bench-instructions:
	@cargo bench --quiet --package benches --bench locks -- instructions

model:
	cargo run --quiet --release --package redlock-model -- $(MODEL)

simulate:
	cargo run --release --package redlock-simulation -- --seeds $(SEEDS) --from $(FROM)

mutants:
	@.ci/mutants

chaos: setup
	cargo run --release --package redlock-chaos -- --minutes $(MINUTES)

chaos-rslock: setup
	cargo build --release --package benches --bin chaos-rslock
	cargo run --release --package redlock-chaos -- --minutes $(MINUTES) --client target/release/chaos-rslock

fuzz: setup
	PROPTEST_CASES=$(CASES) cargo test --package redlock-core --test fuzz
	PROPTEST_CASES=$(CASES) cargo test --package redlock-sentinel --lib belief::fuzz
	PROPTEST_CASES=$(CASES) cargo test --package redlock-cli --bins fuzz -- --skip health
	PROPTEST_CASES=$$(($(CASES) / 100)) cargo test --package redlock-cli --bins health::server::fuzz
	PROPTEST_CASES=$$(($(CASES) / 100)) cargo test --package tests --test hostile
