# The front door: `make` lists the tasks.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test check fmt clippy doc deny scripts soak clean

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and start the three services; Ctrl-C stops them
	@scripts/run

test: ## Run every test, and install what they need where that is possible
	@scripts/test

check: fmt clippy doc deny scripts ## Check format, lints, documentation and dependencies

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked -- --deny warnings

doc:
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --document-private-items

# The parts that need no network; advisories change without a commit, so they are not a test.
deny:
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --no-default-features
	cargo deny --offline --log-level error check bans licenses sources

scripts:
	shellcheck scripts/* tests/*.sh tests/kubernetes/install-tools .ci/run

soak: ## Run the long proofs at their full size (about an hour)
	@SOAK=full scripts/test

clean: ## Remove what was built; the numbers in data/ stay
	cargo clean

include k8s/k8s.mk
