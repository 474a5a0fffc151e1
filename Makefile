# The front door: `make` lists the tasks.

.DEFAULT_GOAL := help
.PHONY: help run test check fmt clippy doc deny advisories cargo-deny scripts lint images up sbom \
	bench soak clean

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and start the three services; Ctrl-C stops them
	@scripts/run

test: ## Run every test, and install what they need where that is possible
	@scripts/test

check: fmt clippy doc deny scripts lint ## Check format, lints, documentation and dependencies

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked -- --deny warnings

doc:
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --document-private-items

deny: cargo-deny
	@cargo fetch --locked --quiet
	cargo deny --config scripts/deny.toml --offline --log-level error check bans licenses sources

# Not a part of the tests: advisories change without a commit.
advisories: cargo-deny ## Check the dependencies against the RustSec advisories
	cargo deny --config scripts/deny.toml --log-level error check advisories

# Optimised, it would compile for longer than that ever saves here.
cargo-deny:
	@cargo deny --version >/dev/null 2>&1 || \
		cargo install cargo-deny --locked --no-default-features --debug

scripts:
	shellcheck $(filter-out %.txt %.toml %.yaml,$(wildcard scripts/*)) docker/compile docker/toolchain \
		tests/*.sh tests/images/*.sh tests/images/stand-ins/postgres-entrypoint .ci/run

lint:
	@scripts/lint

images: ## Build the images (docs/images.md)
	@scripts/images

up: ## Build the images and start them under docker-compose; Ctrl-C stops them
	@scripts/up

sbom: ## List the crates in each image, as CycloneDX, in target/sbom/
	@scripts/sbom

bench: ## Measure against peers; QUICK=1 takes three minutes
	@scripts/bench

soak: ## Run the long proofs at their full size (90 minutes; SOAK_MINUTES=30 of steady load)
	@SOAK=full scripts/test

clean: ## Remove what was built; the numbers in data/ stay
	cargo clean

include k8s/k8s.mk
