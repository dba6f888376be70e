package stack

import "github.com/serai-net/serai/connect/wire"

const internalPrefix = "x-envoy-"

// dropAsked takes the fields out of a request by which Envoy lets clients that it
// calls internal say how to treat it: with more tries, or more time. It calls nobody
// internal unless internal_address_config says so, and Consul never does: whoever
// could set them could have requests multiplied, or kept for ever.
func dropAsked(h *wire.Header) {
	found := false
	for i := range h.Len() {
		if name := h.At(i).Name; len(name) > len(internalPrefix) && name[0] == 'x' && name[2] == 'e' && isAsked(name) {
			found = true
			break
		}
	}
	if found {
		h.DelFunc(func(name, _ string) bool { return isAsked(name) })
	}
}

// isAsked tells whether a field is one of those.
func isAsked(name string) bool {
	switch name {
	case "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes",
		"x-envoy-retriable-header-names", "x-envoy-hedge-on-per-try-timeout", "x-envoy-upstream-rq-timeout-ms",
		"x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-upstream-alt-stat-name",
		"x-envoy-expected-rq-timeout-ms", "x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url", "x-envoy-internal":
		return true
	}
	return false
}
