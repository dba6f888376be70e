package listen_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/listen"
)

const maxHello = 16 << 10

// helloOf is what a client of crypto/tls says first.
func helloOf(tb testing.TB, config *tls.Config) []byte {
	tb.Helper()
	var sent bytes.Buffer
	config.InsecureSkipVerify = true
	client := tls.Client(writeOnly{&sent}, config)
	if err := client.HandshakeContext(tb.Context()); err == nil {
		tb.Fatal("a handshake with nobody")
	}
	return sent.Bytes()
}

// split puts the message of one record in records of at most size bytes.
func split(record []byte, size int) []byte {
	var out []byte
	for part := range slices.Chunk(record[5:], size) {
		out = append(out, record[0], record[1], record[2], byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

func TestHello(t *testing.T) {
	t.Parallel()
	named := helloOf(t, &tls.Config{ServerName: "Web.Example", NextProtos: []string{"h2", "http/1.1"}})
	old := helloOf(t, &tls.Config{ServerName: "old.example", MaxVersion: tls.VersionTLS12})
	plain := helloOf(t, &tls.Config{})
	tests := []struct {
		name  string
		bytes []byte
		sni   string
		alpn  []string
	}{
		{"name and protocols", named, "web.example", []string{"h2", "http/1.1"}},
		{"one byte a record", split(named, 1), "web.example", []string{"h2", "http/1.1"}},
		{"records of 100 bytes", split(named, 100), "web.example", []string{"h2", "http/1.1"}},
		{"what comes after", append(bytes.Clone(named), "more"...), "web.example", []string{"h2", "http/1.1"}},
		{"TLS 1.2", old, "old.example", nil},
		{"neither", plain, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			name, alpn, v := listen.ParseHello(tt.bytes, maxHello)
			if v != listen.Found || name != tt.sni || !slices.Equal(alpn, tt.alpn) {
				t.Errorf("%v %q %q", v, name, alpn)
			}
			for n := range min(len(tt.bytes), len(named)) - 5 {
				if _, _, v := listen.ParseHello(tt.bytes[:n], maxHello); v != listen.NeedMore {
					t.Fatalf("%d of %d bytes: %v", n, len(tt.bytes), v)
				}
			}
		})
	}
}

func TestNoHello(t *testing.T) {
	t.Parallel()
	whole := helloOf(t, &tls.Config{ServerName: "web.example"})
	damaged := func(at int, b byte) []byte {
		other := bytes.Clone(whole)
		other[at] = b
		return other
	}
	twice := func(extension string) []byte {
		body := "\x03\x03" + strings.Repeat("r", 32) + "\x00\x00\x02\x13\x01\x01\x00" + "\x00" + string(rune(2*len(extension))) + extension + extension
		return []byte("\x16\x03\x01\x00" + string(rune(4+len(body))) + "\x01\x00\x00" + string(rune(len(body))) + body)
	}
	for name, text := range map[string][]byte{
		"server name twice":    twice("\x00\x00\x00\x06\x00\x04\x00\x00\x01a"),
		"ALPN twice":           twice("\x00\x10\x00\x05\x00\x03\x02h2"),
		"HTTP":                 []byte("GET / HTTP/1.1\r\n"),
		"one byte":             {'G'},
		"another record":       damaged(0, 23),
		"another version":      damaged(1, 2),
		"empty record":         {22, 3, 1, 0, 0},
		"record that is large": {22, 3, 1, 0xff, 0xff},
		"server hello":         damaged(5, 2),
		"session of 33 bytes":  damaged(5+4+2+32, 33),
	} {
		if _, _, v := listen.ParseHello(text, maxHello); v != listen.IsNot {
			t.Errorf("%s: %v", name, v)
		}
	}
	if _, _, v := listen.ParseHello([]byte{22, 3, 1, 0, 9, 1, 0, 0x40, 0}, maxHello); v != listen.TooLong {
		t.Errorf("16 KiB: %v", v)
	}
}

// oracle is what crypto/tls reads of a ClientHello, if it is one.
func oracle(b []byte) (info *tls.ClientHelloInfo) {
	server := tls.Server(readOnly{Reader: bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			info = hello
			return nil, errors.New("seen enough")
		},
	})
	server.HandshakeContext(context.Background()) //nolint:errcheck // what it has seen counts
	return info
}

type readOnly struct {
	writeOnly
	*bytes.Reader
}

func (r readOnly) Read(p []byte) (int, error)       { return r.Reader.Read(p) }
func (r readOnly) Write(p []byte) (int, error)      { return len(p), nil }
func (r readOnly) WriteTo(io.Writer) (int64, error) { return 0, nil }

var _ net.Conn = readOnly{}

// Whatever crypto/tls understands must be understood in the same way, and nothing
// makes us crash or read on for ever.
func FuzzHello(f *testing.F) {
	f.Add(helloOf(f, &tls.Config{ServerName: "web.example", NextProtos: []string{"h2", "http/1.1"}}), uint8(0))
	f.Add(helloOf(f, &tls.Config{ServerName: "web.example", MaxVersion: tls.VersionTLS12}), uint8(7))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		if size > 0 && len(b) > 5 {
			b = split(b, int(size))
		}
		name, alpn, v := listen.ParseHello(b, maxHello)
		if v != listen.Found && (name != "" || alpn != nil) {
			t.Errorf("%v with %q %q", v, name, alpn)
		}
		// A decision that was made stays, whatever comes after.
		if v != listen.NeedMore {
			if more, _, again := listen.ParseHello(append(bytes.Clone(b), 1, 2, 3), maxHello); again != v || more != name {
				t.Errorf("%v becomes %v", v, again)
			}
		}
		info := oracle(b)
		if info == nil || v == listen.TooLong || strings.HasSuffix(info.ServerName, ".") {
			return
		}
		if v != listen.Found {
			// crypto/tls takes a few that BoringSSL does not: an empty name, odd lists.
			return
		}
		if want := strings.ToLower(info.ServerName); name != want && want != "" {
			t.Errorf("name %q, crypto/tls reads %q", name, want)
		}
		if diff := cmp.Diff(info.SupportedProtos, alpn); diff != "" && len(info.SupportedProtos) > 0 {
			t.Errorf("protocols, -crypto/tls +ours:\n%s", diff)
		}
	})
}

func TestSniffHTTP(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n":      "http/1.1",
		"GET / HTTP/1.1\n":                   "http/1.1",
		"OPTIONS * HTTP/1.0\r\n":             "http/1.0",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxx": "h2c",
		"":                                   "more",
		"G":                                  "more",
		"POST":                               "more",
		"POST /a%20b HTT":                    "more",
		"PRI * HTTP/2.0\r\n\r\nS":            "more",
		"PRI * HTTP/2.0\r\n\r\nX":            "not",
		"SSH-2.0-OpenSSH\r\n":                "not",
		"\x16\x03\x01":                       "not",
		"GET / HTTP/2.0\r\n":                 "http/1.0",
		"GET / HTTP/1.12\r\n":                "not",
		"GET\r\n":                            "not",
		"GET / FTP":                          "not",
		"GET /\r\n":                          "http/1.0",
		"get / HTTP/1.1\r\n":                 "not",
		"HELLO / HTTP/1.1\r\n":               "not",
		"GET / HTTP/1.1 more\r\n":            "not",
		"GET " + strings.Repeat("/", 8<<10) + " ": "not",
	} {
		protocol, v := listen.SniffHTTP([]byte(text))
		got := protocol
		switch v {
		case listen.NeedMore:
			got = "more"
		case listen.IsNot:
			got = "not"
		case listen.Found, listen.TooLong:
		}
		if got != want {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
	}
}

func FuzzSniffHTTP(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		protocol, v := listen.SniffHTTP(b)
		if (v == listen.Found) != (protocol != "") {
			t.Errorf("%v with %q", v, protocol)
		}
		if v == listen.NeedMore {
			if len(b) >= 8<<10 {
				t.Errorf("%d bytes are not enough", len(b))
			}
			return
		}
		cut := 0
		if len(b) > 0 {
			cut = rand.IntN(len(b) + 1)
		}
		if _, early := listen.SniffHTTP(b[:cut]); early != v && early != listen.NeedMore {
			t.Errorf("%v after %d bytes, %v after %d", early, cut, v, len(b))
		}
	})
}
