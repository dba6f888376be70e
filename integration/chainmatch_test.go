package integration_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3" // its type is known

	"github.com/serai-net/serai/connect/listen"
	nouns "github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/integration/harness"
)

// called is how a connection comes to a listener.
type called struct {
	local string // address that is called; empty: 127.0.0.1
	from  string // address of the caller; empty: 127.0.0.1
	sni   string // with alpn: a ClientHello
	alpn  []string
	text  string // without TLS
}

// matchCases are filter chains by their matches, with connections to them. Nothing says which chain is right: that
// is what Envoy says.
func matchCases() map[string]struct {
	matches []string
	calls   []called
} {
	hello := func(sni string, alpn ...string) called { return called{sni: sni, alpn: alpn} }
	plain := called{text: "hello\r\n"}
	type one = struct {
		matches []string
		calls   []called
	}
	return map[string]one{
		"addresses": {
			[]string{
				`"prefix_ranges":[{"address_prefix":"127.0.0.0","prefix_len":8}]`, `"prefix_ranges":[{"address_prefix":"127.1.0.0","prefix_len":16}]`,
				`"prefix_ranges":[{"address_prefix":"127.1.1.1","prefix_len":32}],"source_prefix_ranges":[{"address_prefix":"127.9.0.0","prefix_len":16}]`,
			},
			[]called{{text: "hello\r\n"}, {local: "127.1.2.3", text: "hello\r\n"}, {local: "127.1.1.1", text: "hello\r\n"}, {local: "127.1.1.1", from: "127.9.1.1", text: "hello\r\n"}},
		},
		"names": {
			[]string{
				`"server_names":["a.example"]`, `"server_names":["*.example"]`, `"server_names":["*.a.example","b.test"]`, `"server_names":["*.internal"],"application_protocols":["h2"]`,
				`"transport_protocol":"raw_buffer"`,
			},
			[]called{
				hello("a.example"), hello("A.Example"), hello("b.example"), hello("c.b.a.example"), hello("b.test"), hello("c.b.test"), hello("example"), hello("x.internal"),
				hello("x.internal", "h2"), hello("x.internal", "http/1.1", "h2"), hello(""), plain,
			},
		},
		"no way back": {
			[]string{
				`"server_names":["*.example"]`, `"server_names":["a.example"],"application_protocols":["h2"]`, `"server_names":["b.example"],"transport_protocol":"raw_buffer"`,
				`"server_names":["c.example"],"source_type":"EXTERNAL"`, `"server_names":["d.example"],"source_prefix_ranges":[{"address_prefix":"127.9.0.0","prefix_len":16}]`,
			},
			[]called{hello("a.example"), hello("a.example", "h2"), hello("b.example"), hello("c.example"), hello("d.example"), {sni: "d.example", from: "127.9.0.1"}, hello("e.example"), plain},
		},
		"protocols": {
			[]string{`"application_protocols":["http/1.1"]`, `"application_protocols":["http/1.0"]`, `"application_protocols":["h2c"]`, `"application_protocols":["h2"]`, `"transport_protocol":"tls"`, ``},
			[]called{
				{text: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
				{text: "OPTIONS * HTTP/1.0\r\n\r\n"},
				{text: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
				{text: "FETCH / HTTP/1.1\r\n\r\n"},
				{text: "SSH-2.0-x\r\n"},
				{text: "get / HTTP/1.1\r\n\r\n"},
				{text: "GET / HTTP/2.0\r\n\r\n"},
				{text: "M-SEARCH * HTTP/1.1\r\n\r\n"},
				{text: "PURGE /a HTTP/1.1\r\n\r\n"},
				{text: "GET /a b HTTP/1.1\r\n\r\n"},
				{text: "GET /\r\n\r\n"},
				{text: "GET / HTTP/1.1\nHost: a\n\n"},
				{text: " GET / HTTP/1.1\r\n\r\n"},
				{text: "\r\nGET / HTTP/1.1\r\n\r\n"},
				{text: "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"},
				{text: "GET / FTP/1.0\r\n\r\n"},
				{text: "GET / HTTP/1.2\r\n\r\n"},
				{text: "GET / HTTP/1.1x\r\n\r\n"},
				{text: "GET / http/1.1\r\n\r\n"},
				{text: "GET  HTTP/1.1\r\n\r\n"},
				{text: "GET / HTTP/0.9\r\n\r\n"},
				{text: "GET /\x01 HTTP/1.1\r\n\r\n"},
				{text: "GET\t/ HTTP/1.1\r\n\r\n"},
				{text: "GET / HTTP/1.1 \r\n\r\n"},
				{text: "GET\r\n\r\n"},
				{text: "GET / HTTP/11\r\n\r\n"},
				hello("x", "h2"), hello("x", "http/1.1"), hello("x"), hello("x", "spdy", "http/1.1", "h2"),
			},
		},
		"sources": {
			[]string{
				`"source_type":"SAME_IP_OR_LOOPBACK"`, `"source_prefix_ranges":[{"address_prefix":"127.2.0.0","prefix_len":16}]`, `"source_type":"EXTERNAL"`,
			},
			[]called{plain, {from: "127.2.0.1", text: "hello\r\n"}, {local: "127.3.0.1", from: "127.3.0.1", text: "hello\r\n"}},
		},
		"source prefixes": {
			[]string{
				`"source_prefix_ranges":[{"address_prefix":"127.0.0.0","prefix_len":8}]`, `"source_prefix_ranges":[{"address_prefix":"127.2.0.0","prefix_len":16}]`,
				`"direct_source_prefix_ranges":[{"address_prefix":"127.2.2.0","prefix_len":24}]`,
			},
			[]called{plain, {from: "127.2.0.1", text: "hello\r\n"}, {from: "127.2.2.1", text: "hello\r\n"}},
		},
		"any name in so many words": {
			[]string{`"server_names":["","a.example"]`, `"server_names":["b.example"]`},
			[]called{hello("a.example"), hello("b.example"), hello("c.example"), hello(""), plain},
		},
	}
}

// listenerJSON is a listener whose chains say their number; the default says "default".
func listenerJSON(name string, port int, matches []string) string {
	says := func(text string) string {
		return fmt.Sprintf(`"filters":[{"name":"d","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config","response":{"inline_string":%q}}}]`, text)
	}
	var chains []string
	for i, match := range matches {
		chains = append(chains, fmt.Sprintf(`{"filter_chain_match":{%s},%s}`, match, says(fmt.Sprint(i))))
	}
	inspector := func(kind string) string {
		return `{"name":"` + kind + `","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.` + kind + `"}}`
	}
	return fmt.Sprintf(`{"name":%q,"address":{"socket_address":{"address":"0.0.0.0","port_value":%d}},"listener_filters":[%s,%s],"filter_chains":[%s],"default_filter_chain":{%s}}`,
		name, port, inspector("tls_inspector.v3.TlsInspector"), inspector("http_inspector.v3.HttpInspector"), strings.Join(chains, ","), says("default"))
}

// says answers with a text.
type says string

// Serve implements listen.Handler.
func (s says) Serve(conn net.Conn, _ *wire.Peer, _ *wire.Drain) {
	_, _ = io.WriteString(conn, string(s))
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
		_ = tcp.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, tcp)
	}
	drop(conn)
}

// TestChainMatchAsEnvoy: for each connection our listener chooses the chain that Envoy chooses.
func TestChainMatchAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	cases := matchCases()
	port, err := env.Ports(2*len(cases) + 1)
	must(t, err)
	set := listen.NewSet(listen.Config{Strict: true}, slog.New(slog.DiscardHandler))
	var theirs []string
	var ours []*listen.Spec
	ports := map[string]int{}
	for name, c := range cases {
		port += 2
		ports[name] = port
		theirs = append(theirs, listenerJSON(name, port, c.matches))
		ours = append(ours, ourListener(t, listenerJSON(name, port+1, c.matches)))
	}
	commit, err := set.Prepare(ours)
	must(t, err)
	commit()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		set.Shutdown(ctx, 0)
	})
	file := filepath.Join(env.Dir(), "envoy.json")
	must(t, os.WriteFile(file, []byte(`{"static_resources":{"listeners":[`+strings.Join(theirs, ",")+`]}}`), 0o600))
	startEnvoy(t, env, "envoy", file)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, call := range c.calls {
				var want string
				eventually(t, "Envoy answers", func(context.Context) (err error) {
					want, err = chainOf(t, call, ports[name])
					return err
				})
				got, err := chainOf(t, call, ports[name]+1)
				if err != nil || got != want {
					t.Errorf("%+v: ours is chain %q (%v), Envoy's %q", call, got, err, want)
				}
			}
		})
	}
}

// ourListener is a listener as we read it.
func ourListener(t *testing.T, text string) *listen.Spec {
	t.Helper()
	name, body, err := resource.FromJSON(resource.ListenerType, []byte(text))
	must(t, err)
	l, _, err := resource.Listener(body)
	must(t, err)
	if l.Refusal != "" {
		t.Fatal(l.Refusal)
	}
	var entries []listen.Entry
	for i, c := range l.Chains {
		entries = append(entries, listen.Entry{Match: c.Match, Chain: &listen.Chain{Name: fmt.Sprint(i), Handler: says(fmt.Sprint(i))}})
	}
	table, err := listen.NewTable(entries, &listen.Chain{Name: "default", Handler: says("default")})
	must(t, err)
	return &listen.Spec{Name: name, Address: nouns.Address{AddrPort: l.Address.AddrPort}, Inspect: l.Inspect, Chains: table}
}

// chainOf makes a connection and returns what the chain says.
func chainOf(t *testing.T, c called, port int) (string, error) {
	t.Helper()
	local, from := c.local, c.from
	if local == "" {
		local = "127.0.0.1"
	}
	if from == "" {
		from = "127.0.0.1"
	}
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)), Timeout: patience}
	conn, err := dialer.DialContext(t.Context(), "tcp", net.JoinHostPort(local, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer drop(conn)
	first := []byte(c.text)
	if c.text == "" {
		first = clientHello(t, c.sni, c.alpn)
	}
	if _, err := conn.Write(first); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	if len(said) == 0 {
		return "", errors.Join(errors.New("nothing was said"), err)
	}
	return string(said), nil // a reset after it says nothing
}

// clientHello is what a TLS client says first.
func clientHello(t *testing.T, sni string, alpn []string) []byte {
	t.Helper()
	var sent bytes.Buffer
	client := tls.Client(&onlyWritten{Buffer: &sent}, &tls.Config{ServerName: sni, NextProtos: alpn, InsecureSkipVerify: true})
	if err := client.HandshakeContext(t.Context()); err == nil {
		t.Fatal("a handshake with nobody")
	}
	return sent.Bytes()
}

// onlyWritten is a connection from which nothing comes.
type onlyWritten struct {
	net.Conn
	*bytes.Buffer
}

func (o *onlyWritten) Read([]byte) (int, error)         { return 0, io.EOF }
func (o *onlyWritten) Write(p []byte) (int, error)      { return o.Buffer.Write(p) }
func (o *onlyWritten) Close() error                     { return nil }
func (o *onlyWritten) SetDeadline(time.Time) error      { return nil }
func (o *onlyWritten) SetReadDeadline(time.Time) error  { return nil }
func (o *onlyWritten) SetWriteDeadline(time.Time) error { return nil }
