package stack

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Fields by which proxies tell of a client and of themselves.
const (
	requestIDField      = "x-request-id"
	forwardedForField   = "x-forwarded-for"
	forwardedProtoField = "x-forwarded-proto"
	forwardedPortField  = "x-forwarded-port"
	externalField       = "x-envoy-external-address"
	serviceTimeField    = "x-envoy-upstream-service-time"
	expectedField       = "x-envoy-expected-rq-timeout-ms"
	attemptsField       = "x-envoy-attempt-count"
)

// Conduct says in header fields what Envoy says: who the client is, how the
// exchange is called, who has answered. It stands outside of all that decides, so
// that what a client says of itself is judged before it is believed, and answers of
// our own get the same fields.
func Conduct(c mesh.Conduct) wire.Layer {
	server := cmp.Or(c.ServerName, "envoy")
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			err := introduce(&c, x, req)
			var resp *wire.Response
			if err == nil {
				resp, err = next.Serve(x, req)
			}
			if err != nil {
				resp = wire.Reply(x, err)
				resp.Header.Set("server", server)
				if c.Server == mesh.ServerPassThrough {
					resp.Header.Del("server")
				}
			}
			switch c.Server {
			case mesh.ServerOverwrite:
				resp.Header.Set("server", server)
			case mesh.ServerIfAbsent:
				if !resp.Header.Has("server") {
					resp.Header.Add("server", server)
				}
			case mesh.ServerPassThrough:
			}
			if c.ReturnRequestID {
				if id := req.Header.Get(requestIDField); id != "" {
					resp.Header.Set(requestIDField, id)
				}
			}
			if c.Via != "" {
				appendTo(&resp.Header, "via", c.Via, ", ")
			}
			return resp, nil
		})
	}
}

// told are the fields that proxies before us have set in a head, which is looked through
// once for all of them.
type told struct{ forwardedFor, forwardedProto, requestID, internal bool }

func look(h *wire.Header) (t told) {
	for i := range h.Len() {
		name := h.At(i).Name
		if len(name) < len(internalPrefix) || name[0] != 'x' {
			continue
		}
		switch {
		case name == requestIDField:
			t.requestID = true
		case name == forwardedForField:
			t.forwardedFor = true
		case name == forwardedProtoField:
			t.forwardedProto = true
		case name[:len(internalPrefix)] == internalPrefix:
			t.internal = true
		}
	}
	return t
}

// introduce changes the fields of a request. An error is why it is not served.
func introduce(c *mesh.Conduct, x *wire.Exchange, req *wire.Request) error {
	h := &req.Header
	t := look(h)
	if t.internal {
		disbelieve(h, c.UseRemote)
	}
	if pretends(c, x, req) {
		return &wire.Fault{Status: http.StatusForbidden, Flag: wire.FlagDownstreamProtocol, Details: "http1.invalid_scheme"}
	}
	if err := locate(c, x, h, t); err != nil {
		return err
	}
	switch proto := x.Peer.Scheme(); {
	case !t.forwardedProto:
		h.Add(forwardedProtoField, proto)
	case c.UseRemote && c.TrustedHops == 0:
		h.Set(forwardedProtoField, proto)
	}
	setScheme(c, req, t.forwardedProto)
	if c.ForwardedPort && !h.Has(forwardedPortField) && x.Peer.Local.IsValid() {
		var text [8]byte
		h.Add(forwardedPortField, x.Keep(strconv.AppendUint(text[:0], uint64(x.Peer.Local.Port()), 10)))
	}
	if c.Via != "" {
		appendTo(h, "via", c.Via, ", ")
	}
	if c.UserAgent {
		present(c, h)
	}
	if c.UseRemote {
		tellExternal(x, h)
	}
	switch {
	case c.NoRequestID:
	case !t.requestID:
		h.Add(requestIDField, newRequestID(x))
	case c.UseRemote && !c.PreserveRequestID:
		h.Set(requestIDField, newRequestID(x))
	}
	return nil
}

// present says to the upstream who we are (add_user_agent).
func present(c *mesh.Conduct, h *wire.Header) {
	h.Set("x-envoy-downstream-service-cluster", c.Cluster)
	if h.Get("user-agent") == "" {
		h.Set("user-agent", c.Cluster)
	}
	if c.Node != "" {
		h.Set("x-envoy-downstream-service-node", c.Node)
	}
}

// locate finds out who the client is, and says who has come to us.
func locate(c *mesh.Conduct, x *wire.Exchange, h *wire.Header, t told) error {
	switch {
	case c.UseRemote:
		if host := x.Peer.Host(); host != "" && !c.NoForwardedFor {
			appendTo(h, forwardedForField, host, ",")
		}
		if c.TrustedHops > 0 {
			x.Remote = lastButOne(h.Joined(forwardedForField), c.TrustedHops)
		}
	case c.Detect != nil:
		return detect(c.Detect, x, h)
	case t.forwardedFor:
		x.Remote = lastButOne(h.Joined(forwardedForField), c.TrustedHops)
	}
	return nil
}

// tellExternal tells the upstream who the client is, unless somebody has.
func tellExternal(x *wire.Exchange, h *wire.Header) {
	client := x.Peer.Host()
	if x.Remote.IsValid() {
		client = x.Remote.Addr().String()
	}
	if client != "" && !h.Has(externalField) {
		h.Add(externalField, client)
	}
}

// pretends tells whether a client of HTTP/1 claims to be secure, and is not.
func pretends(c *mesh.Conduct, x *wire.Exchange, req *wire.Request) bool {
	return c.UseRemote && c.TrustedHops == 0 && req.SchemeTold && req.Proto == 1 && req.Scheme == "https" && !x.Peer.TLS
}

// setScheme makes the scheme what x-forwarded-proto says, if somebody before us has,
// unless the head of the request has told it, or what is configured.
func setScheme(c *mesh.Conduct, req *wire.Request, forwarded bool) {
	if c.Scheme != "" {
		req.Scheme = c.Scheme
		req.Header.Set(forwardedProtoField, c.Scheme)
		return
	}
	if req.SchemeTold || !forwarded {
		return
	}
	switch told := req.Header.Joined(forwardedProtoField); {
	case strings.EqualFold(told, "http"):
		req.Scheme = "http"
	case strings.EqualFold(told, "https"):
		req.Scheme = "https"
	}
}

// disbelieve takes out what only Envoy itself may tell, or somebody it trusts: as
// nobody is called internal, that is nobody. What asks for retries and timeouts is
// left to the router. A client outside (edge) may say still less.
func disbelieve(h *wire.Header, edge bool) {
	h.DelFunc(func(name, _ string) bool {
		switch name {
		case "x-envoy-internal", expectedField, "x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url",
			"x-envoy-upstream-alt-stat-name":
			return true
		case "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node",
			originalPath, externalField:
			return edge
		}
		return false
	})
}

// appendTo appends value to what the field says.
func appendTo(h *wire.Header, name, value, separator string) {
	if before := h.Joined(name); before != "" {
		value = before + separator + value
	}
	h.Set(name, value)
}

// lastButOne is the address in a list that so many hops have been added to since;
// invalid if there is none.
func lastButOne(list string, hops uint32) netip.AddrPort {
	for range hops {
		comma := strings.LastIndexByte(list, ',')
		if comma < 0 {
			return netip.AddrPort{}
		}
		list = list[:comma]
	}
	return addressOf(list[strings.LastIndexByte(list, ',')+1:])
}

// addressOf is an address that a proxy has told, with its port or without; invalid if
// it is none.
func addressOf(text string) netip.AddrPort {
	last := strings.TrimSpace(text)
	if address, err := netip.ParseAddr(last); err == nil {
		return netip.AddrPortFrom(address.WithZone(""), 0)
	}
	if address, err := netip.ParseAddrPort(last); err == nil {
		return address
	}
	return netip.AddrPort{}
}

// newRequestID is a random UUID of version 4 (RFC 9562). It tells exchanges apart
// and is no secret, so that it may come from a quick source.
func newRequestID(x *wire.Exchange) string {
	const digits = "0123456789abcdef"
	high, low := rand.Uint64(), rand.Uint64() //nolint:gosec // see above
	high, low = high&^0xf000|0x4000, low&^(3<<62)|2<<62
	var text [36]byte
	at := 0
	for i := range 32 {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			text[at] = '-'
			at++
		}
		text[at] = digits[high>>60]
		at++
		high = high<<4 | low>>60
		low <<= 4
	}
	return x.Keep(text[:])
}

// tellServiceTime tells the client how long the upstream has taken for its head.
func tellServiceTime(x *wire.Exchange, resp *wire.Response) {
	n := len(x.Attempts)
	if n == 0 {
		return
	}
	a := &x.Attempts[n-1]
	begin := a.Connected
	if a.Uploaded.After(begin) {
		begin = a.Uploaded
	}
	taken := a.Head.Sub(begin)
	if begin.IsZero() || a.Head.IsZero() {
		taken = 0
	}
	var text [20]byte
	resp.Header.Set(serviceTimeField, x.Keep(strconv.AppendInt(text[:0], int64(max(0, taken)/time.Millisecond), 10)))
}

// tellTimeout tells the upstream how long we wait, 0 for ever.
func tellTimeout(x *wire.Exchange, req *wire.Request, timeout time.Duration) {
	if timeout <= 0 {
		return
	}
	var text [20]byte
	req.Header.Set(expectedField, x.Keep(strconv.AppendInt(text[:0], int64(timeout/time.Millisecond), 10)))
}
