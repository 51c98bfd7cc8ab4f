# `make` or `make help` lists what there is. What has logic is a script or a `waybill` command.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-real up test unit integration lint check schemas bench

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: ## Install what is missing: a C compiler, Postgres, nats-server
	@./scripts/setup.sh

demo: setup ## Watch orders being fulfilled, declined, cancelled and compensated (a minute)
	cargo run --locked --quiet --package waybill -- demo

demo-real: setup ## Play a real shop's 6,919 purchases through the APIs, and balance the books
	cargo run --locked --release --package waybill -- demo --purchases "$$(./scripts/fetch-cdnow.sh)"

up: setup ## Run everything here until Ctrl-C; prints addresses and lines to paste
	cargo run --locked --quiet --package waybill -- up

test: setup unit integration ## Unit tests, then everything on real Postgres and JetStream

unit: ## The tests that need no server
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked --workspace --exclude tests; else cargo test --locked --workspace --exclude tests; fi

integration: ## The tests on real servers, in one process that starts them once; the storms alone
	cargo test --locked --package tests -- --skip event_store::chaos --skip storm::
	cargo test --locked --package tests --test it -- event_store::chaos storm:: --nocapture --test-threads 1

lint: ## Format, clippy, rustdoc: no warnings
	cargo fmt --all --check && cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

check: setup lint test ## What CI runs, but for the demo
	./scripts/check-deploy.sh
	./scripts/check-schemas.sh
	./scripts/check-openapi.sh

schemas: ## Write schemas/ from the code; REPLACE=TYPE if nobody has stored it, BREAK=1 if nobody calls it
	cargo run --locked --quiet --package waybill -- schemas write $(foreach type,$(REPLACE),--replace $(type)) $(if $(BREAK),--breaking)

bench: setup ## Ratios against pgbench in the same run; ROWS=append_64,… runs a part
	cargo run --locked --release --package bench -- $(if $(ROWS),--rows $(ROWS))
