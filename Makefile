# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make bench   the benches; the tables and plots are in benches/results
# make bench-quick         ratios alone, within a minute once built
# make bench-instructions  instructions per cycle, by valgrind

.PHONY: setup test lint bench bench-quick bench-instructions

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

bench-quick:
	@cargo bench --quiet --package benches --bench locks -- quick

bench-instructions:
	@cargo bench --quiet --package benches --bench locks -- instructions
