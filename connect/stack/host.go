package stack

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// stripPort takes the port off the authority, but not off that of CONNECT, which
// names one (strip_any_host_port, strip_matching_host_port).
func stripPort(h *mesh.HTTP) wire.Layer {
	if !h.StripPort && !h.StripLocalPort {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			host, port := cutPort(req.Authority)
			if port != "" && req.Method != http.MethodConnect {
				if n, err := strconv.ParseUint(port, 10, 16); err == nil && (h.StripPort || uint16(n) == x.Peer.Local.Port()) {
					req.Authority, x.Authority = host, host
				}
			}
			return next.Serve(x, req)
		})
	}
}

// stripDot takes a dot off the end of the host (strip_trailing_host_dot).
func stripDot(on bool) wire.Layer {
	if !on {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			host, port := cutPort(req.Authority)
			if bare, ok := strings.CutSuffix(host, "."); ok {
				if port != "" {
					bare += ":" + port
				}
				req.Authority, x.Authority = bare, bare
			}
			return next.Serve(x, req)
		})
	}
}

// maxRequests closes a connection after so many (max_requests_per_connection).
func maxRequests(most uint32) wire.Layer {
	if most == 0 {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if x.Peer.CountRequest() >= most {
				x.CloseDownstream = true
			}
			return next.Serve(x, req)
		})
	}
}

// cutPort splits an authority; an IPv6 address keeps its brackets.
func cutPort(authority string) (host, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.IndexByte(authority[i:], ']') >= 0 {
		return authority, ""
	}
	return authority[:i], authority[i+1:]
}
