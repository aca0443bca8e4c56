# make run     build Atoll, start it and see what it does
# make test    everything that must hold; needs root
# make bench   how fast it is, beside an alternative
# make examples  agent frameworks at work, which take a while to install

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATIC := CGO_ENABLED=0 go build -trimpath
FILES := bundle/files
VENV := test/.venv
FUZZTIME ?= 10s
DATA ?= $(if $(filter 0,$(shell id -u)),/var/lib/atoll,$(HOME)/.local/share/atoll)

.PHONY: run
run: needs build ## builds, starts, and shows the main job
	exec bin/atoll up --demo --data $(DATA)

.PHONY: needs
needs:
	@.ci/needs run

# The helpers carry no revision, so that a commit which does not touch them
# leaves snapshots of templates as they are. Go relinks only what has changed.
.PHONY: build
build: helpers ## bin/atoll
	@$(STATIC) -ldflags "-s -w -X main.release=$(VERSION)" -o bin/atoll ./cmd/atoll

.PHONY: helpers
helpers:
	@CGO_ENABLED=0 $$(go run ./gvisor/patch)/go build -trimpath -buildvcs=false -ldflags "-s -w" -o $(FILES)/atoll-guest ./cmd/atoll-guest
	@GOFLAGS=-buildvcs=false gvisor/build.sh $(FILES)

.PHONY: sdks
sdks: test/js/node_modules/.stamp $(VENV)/.stamp ## the published SDKs, for the tests

test/js/node_modules/.stamp: test/js/package-lock.json
	@PATH="$$PWD/test/.node/node_modules/.bin:$$PATH" npm ci --prefix test/js --no-audit --no-fund --silent
	@touch $@

$(VENV)/.stamp: test/py/requirements.txt
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

ROOMS = $$(go list ./... | grep -v '/test$$')

.PHONY: test
test: ## everything that must hold
	@.ci/needs test
	@$(MAKE) --no-print-directory build sdks
	@go vet ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	@export ATOLL_TEST_BUILT=1; code=0; \
	{ go test -json -timeout 15m $(ROOMS) || code=1; go test -json -timeout 30m ./test || code=1; exit $$code; } \
		| go run ./test/tally

EXAMPLES ?= langchain openai-agents crewai

.PHONY: examples
examples: build sdks ## the examples with agent frameworks, which are large
	@ATOLL_TEST_BUILT=1 ATOLL_TEST_EXAMPLES="$(EXAMPLES)" go test -count=1 -timeout 60m -run TestExamples ./test

.PHONY: bench
bench: ## the figures, as a table
	@.ci/needs bench
	@$(MAKE) --no-print-directory build sdks
	@go run ./test/bench $(BENCH)

.PHONY: race
race: build sdks ## all tests with the race detector, in the server too
	@CGO_ENABLED=1 go build -race -o bin/atoll-race ./cmd/atoll
	@export ATOLL_TEST_BUILT=1 ATOLL_TEST_BINARY=$$PWD/bin/atoll-race; code=0; \
	{ CGO_ENABLED=1 go test -race -json -timeout 30m $(ROOMS) || code=1; \
		go test -json -short -timeout 60m ./test || code=1; exit $$code; } | go run ./test/tally

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME
	@for package in $$(go list ./...); do \
		for name in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: generate
generate: ## generated source from its definitions
	go generate ./...

.PHONY: clean
clean: ## all that was built; data of servers stays
	rm -rf bin test/js/node_modules test/.venv test/.node test/.node24
	find $(FILES) -type f ! -name README -delete
