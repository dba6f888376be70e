# Serai. The recipes are short; what is longer stands in integration/tools, where the pinned tools are, too.
SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build tools demo test check lint vuln bench-peers conformance fuzz fmt clean

TOOLS := integration/tools
BIN := .tools/bin

## help: what there is to make (the default)
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

## build: bin/serai, one static binary
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/serai ./cmd/serai

## tools: all pinned neighbours (Consul, Nomad, CNI, Envoy, Fortio, linters) into .tools/bin; cold: about 7 minutes
tools:
	@$(TOOLS)/build

## demo: the main job with real parts, until Ctrl-C; CHECK=1 runs its own commands, compares, exits
demo:
	@$(TOOLS)/build consul
	@$(MAKE) --no-print-directory build
	@go build -o bin/demo ./integration/demo
	@exec bin/demo $(if $(filter-out 0,$(CHECK)),-check)

## test: all tests, against real neighbours; PKG=./connect/... and ARGS="-run X -v" narrow it
test:
	@$(TOOLS)/build consul nomad cni envoy fortio h2spec
	@$(MAKE) --no-print-directory build
	@$(TOOLS)/test $(or $(PKG),./...) $(ARGS)

## check: what CI runs: lint, vuln, test, and the demo checked
check: lint vuln test
	@$(MAKE) --no-print-directory demo CHECK=1

## lint: go mod tidy, vet, golangci-lint, formatters; PKG=./connect/... narrows it
lint:
	@$(TOOLS)/build golangci-lint
	go mod tidy -diff
	go vet $(or $(PKG),./...)
	$(BIN)/golangci-lint run $(or $(PKG),./...)
	$(BIN)/golangci-lint fmt --diff

## vuln: govulncheck, if its database can be reached
vuln:
	@$(TOOLS)/build govulncheck
	@$(TOOLS)/vuln ./...

## bench-peers: our benchmarks; the rows of peers come with the engine
bench-peers:
	go test -run '^$$' -bench . -benchmem ./connect/...
	@echo "bench-peers: these are our own benchmarks only; Envoy, HAProxy and nginx beside them come with the engine"

## conformance: h2spec against the edge, and the seeds of all fuzz targets
conformance:
	@$(TOOLS)/build h2spec
	@$(MAKE) --no-print-directory build
	go test -count=1 -run '^Fuzz' ./...
	go test -count=1 -run '^TestH2Spec$$' -v ./integration

## fuzz: every fuzz target for FUZZTIME (20s)
fuzz:
	@$(TOOLS)/fuzz $(or $(FUZZTIME),20s)

## fmt: gofumpt and goimports
fmt:
	@$(TOOLS)/build golangci-lint
	$(BIN)/golangci-lint fmt

## clean: removes bin; the tools in .tools take minutes to build and stay
clean:
	rm -rf bin
