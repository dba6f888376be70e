//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// scenario is a job that several proxies do, one after another. Its name is stable: others compare by it.
type scenario struct {
	name  string
	about string // one line for people

	load loadConfig // what does not depend on the proxy
	rate int        // requests per second at which latency is measured
	calm bool       // there is only that rate: the scenario is about memory

	backend  string // kind
	tls      bool   // in front
	log      bool   // an access log is written
	routes   int    // by prefixes of the path; 0: one route for all
	clusters int    // each of ten endpoints, with a route; 0: one, of one endpoint
	pair     string // protocol of the service, as Consul calls it; "": one proxy as a gateway
}

// scenarios are all there are, in the order in which they run.
func scenarios() []*scenario {
	const conns, flights = 32, 8
	plain := func(body int) loadConfig {
		return loadConfig{Protocol: loadPlain, Body: body, Conns: conns}
	}
	h2 := func(protocol string, body int) loadConfig {
		return loadConfig{Protocol: protocol, Body: body, Conns: flights, Streams: flights}
	}
	handshake := loadConfig{Protocol: loadTLS, Body: 512, Conns: 16}
	resume, many, secure := handshake, plain(512), h2(loadH2, 512)
	resume.Resume, many.Conns, secure.TLS = true, 1000, true
	return []*scenario{
		{name: "h1-512", about: "HTTP/1.1, 32 connections, answers of 512 bytes", load: plain(512), rate: 2000},
		{name: "h1-64k", about: "HTTP/1.1, 32 connections, answers of 64 KiB", load: plain(64 << 10), rate: 1000},
		{name: "h1-1m", about: "HTTP/1.1, 32 connections, answers of 1 MiB", load: plain(1 << 20), rate: 100},
		{name: "h1-1000conns", about: "HTTP/1.1, 1,000 connections, answers of 512 bytes", load: many, rate: 2000},
		{name: "h2c", about: "HTTP/2 without TLS on both sides, 8 connections of 8 streams", load: h2(loadH2, 512), rate: 2000, backend: backendH2},
		{name: "h2-tls", about: "HTTP/2 over TLS in front, HTTP/1.1 behind, 8 connections of 8 streams", load: secure, rate: 2000, tls: true},
		{name: "grpc-unary", about: "gRPC calls of 100 bytes each way, 8 connections of 8 calls", load: h2(loadUnary, 100), rate: 2000, backend: backendUnary},
		{name: "grpc-stream", about: "messages of 100 bytes and their echo on 64 long gRPC streams", load: h2(loadStream, 100), rate: 2000, backend: backendStream},
		{name: "tls-resumed", about: "TLS 1.3 connections with a resumed session and one request each", load: resume, rate: 300, tls: true},
		{name: "tls-full", about: "TLS 1.3 connections with a full handshake (P-256) and one request each", load: handshake, rate: 300, tls: true},
		{name: "pair-h1", about: "two sidecars with mTLS between them, HTTP/1.1", load: plain(512), rate: 2000, pair: "http"},
		{name: "pair-h2", about: "two sidecars with mTLS between them, HTTP/2", load: h2(loadH2, 512), rate: 2000, backend: backendH2, pair: "http2"},
		{name: "pair-tcp", about: "two sidecars with mTLS between them, TCP, answers of 1 MiB", load: plain(1 << 20), rate: 100, pair: "tcp"},
		{name: "routes-10", about: "as h1-512, with 10 routes that are all used", load: plain(512), rate: 2000, routes: 10},
		{name: "routes-1000", about: "as h1-512, with 1,000 routes that are all used", load: plain(512), rate: 2000, routes: 1000},
		{name: "routes-10000", about: "as h1-512, with 10,000 routes, of which 1,000 are used", load: plain(512), rate: 2000, routes: 10000},
		{name: "clusters-1000", about: "memory with 1,000 clusters of 10 endpoints, each called", load: plain(512), rate: 1000, calm: true, clusters: 1000},
		{name: "log-on", about: "as h1-512, with an access log in a file", load: plain(512), rate: 2000, log: true},
	}
}

// choose picks scenarios by names with commas between them; "" picks all.
func choose(names string) ([]*scenario, error) {
	all := scenarios()
	if names == "" {
		return all, nil
	}
	var chosen []*scenario
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(s *scenario) bool { return s.name == name })
		if i < 0 {
			var there []string
			for _, s := range all {
				there = append(there, s.name)
			}
			return nil, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(there, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// streamed says that clients speak HTTP/2.
func (s *scenario) streamed() bool {
	return slices.Contains([]string{loadH2, loadUnary, loadStream}, s.load.Protocol)
}

// grpc says that they speak gRPC.
func (s *scenario) grpc() bool { return s.load.Protocol == loadUnary || s.load.Protocol == loadStream }

// prefixes are those of the routes.
func (s *scenario) prefixes() []string {
	n := max(s.routes, s.clusters)
	if n == 0 {
		return []string{"/"}
	}
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("/service-%05d/", i)
	}
	return all
}

// usedRoutes bounds how many routes are called.
const usedRoutes = 1000

// paths are what is asked: each route, or of many routes a part that is spread over all of them.
func (s *scenario) paths() []string {
	all := s.prefixes()
	step := max(1, len(all)/usedRoutes)
	var paths []string
	for i := step - 1; i < len(all); i += step {
		paths = append(paths, all[i])
	}
	if len(paths) == 1 {
		return paths
	}
	// neighbours in the configuration are no neighbours in time
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(reversed(a), reversed(b)) })
	return paths
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}
