package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/http2"
)

// line is the connection of a check by which more than one is made.
type line struct {
	one *http1.ClientConn
	two *http2.ClientConn
	// idle says that one may be used again.
	idle bool
}

// ask makes one check.
func (k *check) ask(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, k.config.Timeout)
	defer cancel()
	if k.config.NoReuse {
		defer k.hangUp()
	}
	switch {
	case k.config.HTTP != nil:
		return k.askHTTP(ctx, k.config.HTTP)
	case k.config.GRPC != nil:
		return k.askGRPC(ctx, k.config.GRPC)
	default:
		return k.askTCP(ctx, k.config.TCP)
	}
}

// lost is the outcome of a check that has no answer.
func lost(ctx context.Context, err error) outcome {
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || wire.AsFault(err).Status == http.StatusGatewayTimeout {
		return timedOut
	}
	return noAnswer
}

func (k *check) askHTTP(ctx context.Context, c *mesh.HTTPCheck) outcome {
	r := call.Request{Method: c.Method, Authority: c.Host, Path: c.Path}
	r.Header.Add("user-agent", "Envoy/HC")
	for _, h := range c.Add {
		if h.Append == mesh.AppendOrAdd {
			r.Header.Add(h.Name, h.Value)
			continue
		}
		r.Header.Set(h.Name, h.Value)
	}
	for _, name := range c.Remove {
		r.Header.Del(name)
	}
	resp, err := call.Do(ctx, k.service(c.HTTP2), r)
	if err != nil {
		return lost(ctx, err)
	}
	is := func(r mesh.StatusRange) bool { return resp.Status >= r.From && resp.Status < r.To }
	switch {
	case slices.ContainsFunc(c.Expected, is):
	case slices.ContainsFunc(c.Retriable, is):
		return saidLater
	default:
		return saidNo
	}
	switch {
	case c.Service != nil && !k.serves(c.Service, resp.Header.Get("x-envoy-upstream-healthchecked-cluster")), !within(resp.Body, c.Receive):
		return saidNo
	case resp.Header.Has("x-envoy-degraded"):
		return wentDegraded
	default:
		return wentWell
	}
}

// serves tells whether name is what the host is to serve.
func (k *check) serves(want *mesh.StringMatch, name string) bool {
	k.cluster.checks.verify.Add(1)
	matcher, err := match.String(*want)
	return err == nil && matcher.Match(name)
}

// within tells whether the parts are in body, one behind the other.
func within(body []byte, parts [][]byte) bool {
	for _, part := range parts {
		at := bytes.Index(body, part)
		if at < 0 {
			return false
		}
		body = body[at+len(part):]
	}
	return true
}

// Messages of grpc.health.v1 (grpc/doc/health-checking.md).
const (
	healthMethod = "/grpc.health.v1.Health/Check"
	// tagService stands before the name in a request; a healthy answer is serving.
	tagService = 0x0a
	serving    = "\x08\x01"
)

func (k *check) askGRPC(ctx context.Context, c *mesh.GRPCCheck) outcome {
	var message []byte
	if name := c.Service; name != "" {
		message = append([]byte{tagService}, uvarint(len(name))...)
		message = append(message, name...)
	}
	var metadata []wire.Field
	for _, h := range c.Metadata {
		metadata = append(metadata, wire.Field{Name: h.Name, Value: h.Value})
	}
	got, err := call.Unary(ctx, k.service(true), c.Authority, healthMethod, metadata, message)
	if _, answered := errors.AsType[*call.StatusError](err); answered {
		return saidNo
	}
	switch {
	case err != nil:
		return lost(ctx, err)
	case !strings.HasPrefix(string(got), serving):
		return saidNo
	default:
		return wentWell
	}
}

// uvarint is a length as protobuf writes it.
func uvarint(n int) []byte {
	var out []byte
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

// maxReceived bounds what is read to find what a TCP check waits for.
const maxReceived = 64 << 10

func (k *check) askTCP(ctx context.Context, c *mesh.TCPCheck) outcome {
	cfg := k.cluster.config.Load()
	conn, err := k.host.dial(ctx, cfg, cfg.secure.by(rawTLS), &k.cluster.set.bulk)
	if err != nil {
		return lost(ctx, err)
	}
	defer conn.Close()
	if len(c.Receive) == 0 {
		return wentWell // that it connects is all there is to know
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // reads will tell
	if _, err := conn.Write(c.Send); err != nil {
		return lost(ctx, err)
	}
	var got []byte
	for len(got) < maxReceived {
		part := make([]byte, 1<<10)
		n, err := conn.Read(part)
		if got = append(got, part[:n]...); within(got, c.Receive) {
			return wentWell
		}
		if err != nil {
			return lost(ctx, err)
		}
	}
	return noAnswer
}

// service sends an exchange to the host, by the connection that is there or a new one.
func (k *check) service(two bool) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		a := x.NewAttempt(k.cluster.name, time.Now())
		a.Endpoint = k.host.text
		l, err := k.dial(x.Context(), two)
		switch {
		case err != nil:
			return nil, &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamConnect, Err: err}
		case l.two != nil:
			return l.two.RoundTrip(x, a, req)
		default:
			l.idle = false
			return l.one.RoundTrip(x, a, req)
		}
	})
}

// dial is a connection on which an exchange may begin.
func (k *check) dial(ctx context.Context, two bool) (*line, error) {
	if l := k.line; l != nil && (l.two != nil && l.two.Acquire() || l.one != nil && l.idle && l.one.Alive(false)) {
		return l, nil
	}
	k.hangUp()
	cfg, set := k.cluster.config.Load(), k.cluster.set
	purpose := http1TLS
	if two {
		purpose = http2TLS
	}
	made, err := k.host.dial(ctx, cfg, cfg.secure.by(purpose), &set.bulk)
	if err != nil {
		return nil, err
	}
	if !two {
		l := &line{}
		l.one = http1.NewClientConn(made, http1.ClientConfig{Buffers: &set.buffers}, func(_ *http1.ClientConn, reusable bool) { l.idle = reusable })
		k.line = l
		return l, nil
	}
	if secured, ok := made.(*tls.Conn); ok {
		if p := secured.ConnectionState().NegotiatedProtocol; p != "" && p != "h2" {
			made.Close()
			return nil, errors.New("it speaks no HTTP/2")
		}
	}
	conn := http2.NewClientConn(made, http2.ClientConfig{Bounds: http2.Bounds{Buffers: &set.shared}})
	go conn.Run() //nolint:errcheck // the exchange is told; it ends with the connection
	if !conn.Acquire() {
		conn.Shutdown()
		return nil, errNoPlace()
	}
	k.line = &line{two: conn}
	return k.line, nil
}

// hangUp closes the connection.
func (k *check) hangUp() {
	l := k.line
	k.line = nil
	switch {
	case l == nil:
	case l.two != nil:
		l.two.Shutdown()
	case l.idle:
		l.one.Close()
	}
}
