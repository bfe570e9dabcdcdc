# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make bench   the benches

.PHONY: setup test lint bench

setup:
	@.ci/setup

test: setup
	cargo test --workspace --all-features

lint:
	@.ci/lint

bench: setup
	cargo bench --workspace
