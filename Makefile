# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make bench   the benches
# make simulate SEEDS=1000000 FROM=0
#              simulated histories of the core, with faults
# make mutants whether the simulation notices that the core is broken

.PHONY: setup test lint bench simulate mutants

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

bench: setup
	cargo bench --workspace

simulate:
	cargo run --release --package redlock-simulation -- --seeds $(SEEDS) --from $(FROM)

mutants:
	@.ci/mutants
