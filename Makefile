# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make model   every configuration of the model, one line each; MODEL=large: larger ones, MODEL=name: with its steps
# make bench   the benches
# make fuzz    what tests invent, CASES times (100000); a hostile server once in 100 times

CASES ?= 100000


# make simulate SEEDS=1000000 FROM=0
#              simulated histories of the core, with faults
# make mutants whether the simulation notices that the core is broken

.PHONY: setup test lint model bench fuzz simulate mutants

SEEDS = 100000
FROM = 0

setup:
	@.ci/setup

test: setup
	cargo test --workspace --all-features --exclude redlock-cli
	cargo test --package redlock-cli # with the features it is shipped with
	cargo test --package redlock-core --test release # what a drop does depends on no feature

lint:
	@.ci/lint

model:
	cargo run --quiet --release --package redlock-model -- $(MODEL)

bench: setup
	cargo bench --workspace

fuzz: setup
	PROPTEST_CASES=$(CASES) cargo test --package redlock-core --test fuzz
	PROPTEST_CASES=$(CASES) cargo test --package redlock-sentinel --lib belief::fuzz
	PROPTEST_CASES=$(CASES) cargo test --package redlock-cli --bins fuzz -- --skip health
	PROPTEST_CASES=$$(($(CASES) / 100)) cargo test --package redlock-cli --bins health::server::fuzz
	PROPTEST_CASES=$$(($(CASES) / 100)) cargo test --package tests --test hostile

simulate:
	cargo run --release --package redlock-simulation -- --seeds $(SEEDS) --from $(FROM)

mutants:
	@.ci/mutants
