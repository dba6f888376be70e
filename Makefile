# Serai. The recipes are short; what is longer stands in integration/tools, where the pinned tools are, too.
SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build image tools demo test check lint vuln bench-peers bench-scale conformance fuzz fmt clean

TOOLS := integration/tools
BIN := .tools/bin
# Leaves out what nobody reaches, and what each sidecar would hold in memory: a debug page of grpc, manual pages of the
# command line.
TAGS := grpcnotrace,urfave_cli_no_docs

## help: what there is to make (the default)
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

## build: bin/serai, one static binary, and the bundled plugins in bin/plugins
build:
	CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -ldflags "-s -w" -o bin/serai ./cmd/serai
	CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -ldflags "-s -w" -o bin/plugins/ ./plugins/bundled/...

## image: bin/serai-image.tar, a container image of bin/serai for Nomad's docker driver; no engine is needed; TAG=serai:latest
image: build
	@go run ./integration/image -tag $(or $(TAG),serai:latest) -roots "$(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))"

## tools: all pinned neighbours (Consul, Nomad, CNI, Envoy, Fortio, linters) into .tools/bin; cold: about 7 minutes
tools:
	@$(TOOLS)/build

## demo: the main job with real parts, until Ctrl-C; CHECK=1 runs its own commands, compares, exits
demo:
	@$(TOOLS)/need curl openssl dig
	@$(TOOLS)/build consul
	@$(MAKE) --no-print-directory build
	@go build -o bin/demo ./integration/demo
	@exec bin/demo $(if $(filter-out 0,$(CHECK)),-check)

## test: all tests, against real neighbours; PKG=./connect/... and ARGS="-run X -v" narrow it
test:
	@$(TOOLS)/build consul nomad cni envoy fortio h2spec grpc-interop
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

## bench-peers: Serai beside its peers, docs/benchmarks.md; SCENARIO=h1-512 ROUNDS=3 SECONDS=2.5 PROXY=serai,haproxy
bench-peers:
	@$(TOOLS)/build consul envoy
	@$(TOOLS)/need taskset
	@$(TOOLS)/need nginx haproxy caddy || echo "bench-peers: those that are missing have no rows" >&2
	@$(MAKE) --no-print-directory build
	@go build -o bin/bench ./integration/bench
	@exec bin/bench -json .tools/bench-peers.json $(if $(SCENARIO),-scenario $(SCENARIO)) $(if $(PROXY),-proxy $(PROXY)) \
		$(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(SECONDS),-seconds $(SECONDS))

## bench-scale: a sidecar with 1,000 upstreams of 10 instances, ours and Envoy, on Consul and on its recorded stream; PROXY=serai PHASE=consul,replay
bench-scale:
	@$(TOOLS)/build consul envoy
	@$(TOOLS)/need taskset curl
	@$(MAKE) --no-print-directory build
	@go build -o bin/bench ./integration/bench
	@exec bin/bench scale -record .tools/bench-scale.stream $(if $(PROXY),-proxy $(PROXY)) $(if $(PHASE),-phase $(PHASE))

## conformance: h2spec, gRPC interop, h2load, nghttp, curl, fuzzing, a soak; SUITE=soak SOAK=10m FUZZTIME=10s
conformance:
	@$(TOOLS)/build consul envoy h2spec grpc-interop
	@$(TOOLS)/need h2load nghttp curl
	@$(MAKE) --no-print-directory build
	@SOAK=$(or $(SOAK),10m) FUZZTIME=$(or $(FUZZTIME),10s) $(TOOLS)/conformance $(SUITE)

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
