# Counterfoil. `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help build run test check race e2e test-outside test-playground bench soak fuzz golden clean

GO       ?= go
FUZZTIME ?= 30s
SOAKTIME ?= 30m
# Where a try-out keeps its data.
export COUNTERFOIL_DATA_DIR ?= $(shell internal/setup/data-dir.sh)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build both programs into bin/
	$(GO) build -trimpath -o bin/ ./cmd/counterfoil ./cmd/counterfoil-verify

run: build ## build and try it: website, Teams stand-in and service on this machine
	@internal/setup/need.sh postgresql
	@exec bin/counterfoil serve --demo

check: build ## formatting, vet, the house vet tool, strict policy check and the policy's own tests
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-clean:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	cd internal/lint/euiivet && $(GO) build -o $(CURDIR)/bin/euiivet . && $(GO) vet ./... && $(GO) test ./...
	$(GO) vet -vettool=$(CURDIR)/bin/euiivet ./...
	bin/counterfoil policy check
	bin/counterfoil policy test

# check has vetted everything, so the tests are not vetted again.
test: ## everything that decides whether a change is good; installs PostgreSQL, Chromium and npm when missing
	@internal/setup/need.sh postgresql chromium npm
	@$(MAKE) --no-print-directory check
	$(GO) test -vet=off -ldflags=-w -timeout 20m ./...
	@$(MAKE) --no-print-directory e2e

e2e: build ## the whole product in a real browser
	@internal/setup/need.sh postgresql chromium npm
	cd internal/e2e && COUNTERFOIL_BIN=$(CURDIR)/bin $(GO) test -count=1 -parallel 4 ./...

test-outside: ## logs, proofs, updates and buckets held against tessera's fsck, torchwood's spicy and litewitness, and versitygw, which it installs
	@internal/setup/need.sh postgresql ssh sqlite3
	$(GO) vet -tags outside ./internal/outside
	$(GO) test -tags outside -count=1 ./internal/outside

test-playground: build ## against Microsoft's own playground client, installed ad hoc (root, npm, iproute2)
	@internal/setup/need.sh postgresql chromium
	cd internal/e2e && COUNTERFOIL_BIN=$(CURDIR)/bin $(GO) test -tags playground -count=1 -v ./playground

race: ## the tests again under the race detector
	@internal/setup/need.sh postgresql gcc
	$(GO) test -race -vet=off -count=1 -timeout 20m ./...

bench: ## the figures the product promises, each beside its floor in the same run
	@internal/setup/need.sh postgresql
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 90m ./internal/bench
	$(GO) test -run '^$$' -bench . ./policy ./audit ./internal/stream
	cd internal/bench/peer && $(GO) test -run '^$$' -bench . -benchtime 1x ./...

soak: ## break what a disclosure leans on for SOAKTIME, and show what became of what was asked for
	@internal/setup/need.sh postgresql
	$(GO) test -count=1 -v -timeout 1h -run KillNine ./internal/control -args -kills 30
	$(GO) test -count=1 -v -timeout 3h -run TestWhateverBreaks ./internal/faults -args -for $(SOAKTIME)

fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

golden: ## write the golden files anew; look at the difference before committing it
	$(GO) test ./policy ./internal/teams ./internal/pg/doctor -update

clean: ## remove what was built (data stays)
	rm -rf bin
