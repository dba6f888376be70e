package edge

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// identityPrefix begins the names of the fields by which the edge tells
	// upstreams who calls. No client can set one.
	identityPrefix = "x-serai-"
	consumerHeader = identityPrefix + "consumer"
	planHeader     = identityPrefix + "plan"
	// maxRequestID bounds a request ID from outside, in bytes.
	maxRequestID = 128
)

// forwarded tells upstreams who the client is, and drops what clients claim of
// themselves unless they are in trusted.
func forwarded(trusted []netip.Prefix) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			forward(x, req, isTrusted(trusted, x.Peer.Addr.Addr().Unmap()))
			return next.Serve(x, req)
		})
	}
}

func isTrusted(trusted []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range trusted {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// forward sets x-forwarded-for, -proto and -host and x-request-id. The scheme is the
// connection's, whatever the head says.
func forward(x *wire.Exchange, req *wire.Request, trusted bool) {
	h := &req.Header
	req.Scheme = x.Peer.Scheme()
	h.DelFunc(func(name, _ string) bool { return isClaim(name, trusted) })
	peer := x.Peer.Host()
	switch before := h.Joined("x-forwarded-for"); {
	case peer == "": // a unix socket has no address
	case before == "":
		h.Set("x-forwarded-for", peer)
	default:
		h.Set("x-forwarded-for", before+", "+peer)
	}
	if !h.Has("x-forwarded-proto") {
		h.Set("x-forwarded-proto", req.Scheme)
	}
	if !h.Has("x-forwarded-host") && req.Authority != "" {
		h.Set("x-forwarded-host", req.Authority)
	}
	if x.ID = h.Get("x-request-id"); x.ID == "" || len(x.ID) > maxRequestID {
		x.NewID(rand.Uint64()) // they need to differ, not to be secret
	}
	h.Set("x-request-id", x.ID)
}

// isClaim finds the fields by which a client could pass for somebody else. An
// underscore counts as a dash: servers in the tradition of CGI make one variable
// of both.
func isClaim(name string, trusted bool) bool {
	if len(name) < 4 || (name[0] != 'x' && name[0] != 'f') {
		return false
	}
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
		if isForwarding(name) {
			return true // a trusted proxy spells it right
		}
	}
	return hasIdentityPrefix(name) || (!trusted && isForwarding(name))
}

func hasIdentityPrefix(name string) bool { return strings.HasPrefix(name, identityPrefix) }

func isForwarding(name string) bool {
	switch name {
	case "forwarded", "x-real-ip", "x-request-id", "x-client-ip", "x-original-url", "x-rewrite-url":
		return true
	default:
		return strings.HasPrefix(name, "x-forwarded-") || strings.HasPrefix(name, "x-envoy-")
	}
}
