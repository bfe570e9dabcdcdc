# make setup   install what the tests need
# make test    all tests, on real servers
# make lint    formatting, clippy on every feature alone, documentation, dependencies
# make model   every configuration of the model, one line each; MODEL=large: larger ones, MODEL=name: with its steps
# make bench   the benches

.PHONY: setup test lint model bench

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
