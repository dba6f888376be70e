package stack

import (
	"cmp"
	"encoding/hex"
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

// introduce changes the fields of a request. An error is why it is not served.
func introduce(c *mesh.Conduct, x *wire.Exchange, req *wire.Request) error {
	h := &req.Header
	disbelieve(h, c.UseRemote)
	if pretends(c, x, req) {
		return &wire.Fault{Status: http.StatusForbidden, Flag: wire.FlagDownstreamProtocol, Details: "http1.invalid_scheme"}
	}
	if c.UseRemote {
		if host := x.Peer.Host(); host != "" && !c.NoForwardedFor {
			appendTo(h, forwardedForField, host, ",")
		}
		if c.TrustedHops == 0 || !h.Has(forwardedProtoField) {
			h.Set(forwardedProtoField, x.Peer.Scheme())
		}
		if c.TrustedHops > 0 {
			x.Remote = lastButOne(h.Joined(forwardedForField), c.TrustedHops)
		}
	} else {
		if c.Detect != nil {
			if err := detect(c.Detect, x, h); err != nil {
				return err
			}
		} else if h.Has(forwardedForField) {
			x.Remote = lastButOne(h.Joined(forwardedForField), c.TrustedHops)
		}
		if !h.Has(forwardedProtoField) {
			h.Add(forwardedProtoField, x.Peer.Scheme())
		}
	}
	setScheme(c, req)
	if c.ForwardedPort && !h.Has(forwardedPortField) && x.Peer.Local.IsValid() {
		h.Add(forwardedPortField, strconv.Itoa(int(x.Peer.Local.Port())))
	}
	if c.Via != "" {
		appendTo(h, "via", c.Via, ", ")
	}
	if c.UserAgent {
		present(c, h)
	}
	if client := x.Client().Addr(); c.UseRemote && client.IsValid() && !h.Has(externalField) {
		h.Add(externalField, client.String())
	}
	if has := h.Has(requestIDField); !c.NoRequestID && (!has || c.UseRemote && !c.PreserveRequestID) {
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

// pretends tells whether a client of HTTP/1 claims to be secure, and is not.
func pretends(c *mesh.Conduct, x *wire.Exchange, req *wire.Request) bool {
	return c.UseRemote && c.TrustedHops == 0 && req.SchemeTold && req.Proto == 1 && req.Scheme == "https" && !x.Peer.TLS
}

// setScheme makes the scheme what x-forwarded-proto says, unless the head of the
// request has told it, or what is configured.
func setScheme(c *mesh.Conduct, req *wire.Request) {
	if c.Scheme != "" {
		req.Scheme = c.Scheme
		req.Header.Set(forwardedProtoField, c.Scheme)
		return
	}
	if req.SchemeTold {
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
	found := false
	for i := range h.Len() {
		if strings.HasPrefix(h.At(i).Name, internalPrefix) {
			found = true
			break
		}
	}
	if !found {
		return
	}
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
	var b [16]byte
	high, low := rand.Uint64(), rand.Uint64() //nolint:gosec // see above
	for i := range 8 {
		b[i], b[8+i] = byte(high>>(8*i)), byte(low>>(8*i))
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
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
