package stack_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/mesh"
)

// message is a request that both protocols can say.
type message struct {
	method, target  string
	fields, trailer [][2]string
	body            string
	// chunked says that the length is not told; only then there are trailers.
	chunked bool
}

// saw is what a backend has seen of a message, or a client of its answer.
type saw struct {
	Line, Body      string
	Fields, Trailer map[string]string
}

// recorder is an application that notes what it sees of each message, by its
// "x-way", and sends body and trailers back.
type recorder struct {
	mu  sync.Mutex
	all map[string]*saw
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // it is not whole
	}
	way := req.Header.Get("X-Way")
	length := req.ContentLength
	if len(body) == 0 {
		length = 0 // that there may have been one is nothing to anybody
	}
	s := &saw{
		Line: fmt.Sprintf("%s %s %s %d", req.Method, req.Host, req.RequestURI, length),
		Body: string(body), Fields: flat(req.Header), Trailer: flat(req.Trailer),
	}
	r.mu.Lock()
	r.all[way] = s
	r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(req.Trailer)) {
		w.Header().Add("Trailer", name)
	}
	w.Header()["X-Back"] = req.Header["X-A"]
	w.Header()["Set-Cookie"] = []string{"a=b", "c=d"}
	w.WriteHeader(200 + len(body)%200)
	if req.Method != http.MethodHead {
		w.Write(body) //nolint:errcheck // the client notices
	}
	maps.Copy(w.Header(), req.Trailer)
}

func (r *recorder) take(way string) *saw {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.all[way]
	delete(r.all, way)
	return s
}

// flat joins the values of each field. What differs by its nature is left out.
func flat(h http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		separator := ", "
		switch strings.ToLower(name) {
		case "x-way", "date", "content-length", "trailer":
			continue
		case "cookie": // crumbs are one field in HTTP/1
			separator = "; "
		}
		out[strings.ToLower(name)] = strings.Join(values, separator)
	}
	return out
}

// parse makes a message of what a fuzzer says, if both protocols can say it.
func parse(method, target, fields, body, trailer string, chunked bool) (m message, ok bool) {
	m = message{method: method, target: target, body: body, chunked: chunked}
	if strings.ContainsAny(method+target, "\r\n") || method == "" || strings.Contains(method, " ") || method == http.MethodConnect ||
		method == "PRI" || target != "*" && !strings.HasPrefix(target, "/") || strings.HasSuffix(target, " ") {
		return m, false
	}
	if m.fields, ok = parseLines(fields, "content-length", "expect"); !ok {
		return m, false
	}
	if !chunked {
		return m, trailer == ""
	}
	m.trailer, ok = parseLines(trailer)
	for _, f := range m.trailer {
		if httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(f[0])) { // net/http drops what is not announced
			m.fields = append(m.fields, [2]string{"Trailer", f[0]})
		}
	}
	return m, ok
}

func parseLines(text string, without ...string) (all [][2]string, ok bool) {
	if strings.Contains(text, "\r") {
		return nil, false
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		lower := strings.ToLower(name)
		switch lower {
		case "host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "http2-settings", "x-way":
			return nil, false // which mean nothing, or something else, to the other protocol
		}
		if !found || name == "" || slices.Contains(without, lower) {
			return nil, false
		}
		all = append(all, [2]string{name, strings.Trim(value, " \t")})
	}
	return all, len(all) < 90 // neither of us counts as the other does, beyond
}

// askH1 says m by HTTP/1.1; nil means that it was refused.
func (m *message) askH1(t *testing.T, address, way string) *saw {
	t.Helper()
	conn := dialTo(t, address)
	defer conn.Close()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a.example\r\nX-Way: %s\r\n", m.method, m.target, way)
	for _, f := range m.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	if !m.chunked {
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m.body), m.body)
	} else {
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if m.body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(m.body), m.body)
		}
		b.WriteString("0\r\n")
		for _, f := range m.trailer {
			fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
		}
		b.WriteString("\r\n")
	}
	conn.Write(b.Bytes()) //nolint:errcheck // the answer tells
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: m.method})
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 400 {
		return nil
	}
	return &saw{Line: fmt.Sprint(resp.StatusCode), Body: string(body), Fields: flat(resp.Header), Trailer: flat(resp.Trailer)}
}

// askH2 says m by HTTP/2.
func (m *message) askH2(t *testing.T, address, way string) *saw {
	t.Helper()
	conn := dialTo(t, address)
	defer conn.Close()
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr, enc := http2.NewFramer(&out, conn), hpack.NewEncoder(&block)
	head := func(fields [][2]string, ended bool) {
		block.Reset()
		for _, f := range fields {
			enc.WriteField(hpack.HeaderField{Name: strings.ToLower(f[0]), Value: f[1]}) //nolint:errcheck // into memory
		}
		first, rest := block.Bytes(), []byte(nil)
		if len(first) > 16000 {
			first, rest = first[:16000], first[16000:]
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: ended, EndHeaders: rest == nil}) //nolint:errcheck // into memory
		for len(rest) > 0 {
			n := min(len(rest), 16000)
			fr.WriteContinuation(1, n == len(rest), rest[:n]) //nolint:errcheck // into memory
			rest = rest[n:]
		}
	}
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24}) //nolint:errcheck // into memory
	fields := [][2]string{{":method", m.method}, {":scheme", "http"}, {":path", m.target}, {":authority", "a.example"}, {"x-way", way}}
	fields = append(fields, m.fields...)
	if !m.chunked {
		fields = append(fields, [2]string{"content-length", fmt.Sprint(len(m.body))})
	}
	head(fields, m.body == "" && len(m.trailer) == 0)
	for body := m.body; body != ""; {
		n := min(len(body), 16000)
		fr.WriteData(1, n == len(body) && len(m.trailer) == 0, []byte(body[:n])) //nolint:errcheck // into memory
		body = body[n:]
	}
	if len(m.trailer) > 0 {
		head(m.trailer, true)
	}
	conn.Write(out.Bytes()) //nolint:errcheck // the answer tells
	return readH2(fr)
}

// readH2 reads the answer on stream 1.
func readH2(fr *http2.Framer) *saw {
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var s *saw
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			h := http.Header{}
			for _, field := range f.RegularFields() {
				h.Add(field.Name, field.Value)
			}
			if s != nil {
				s.Trailer = flat(h)
			} else {
				s = &saw{Line: f.PseudoValue("status"), Fields: flat(h), Trailer: map[string]string{}}
			}
			if s.Line >= "400" {
				return nil
			}
			if f.StreamEnded() {
				return s
			}
		case *http2.DataFrame:
			s.Body += string(f.Data())
			if f.StreamEnded() {
				return s
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return nil
		}
	}
}

// crossing is all ways from a client to a backend.
type crossing struct {
	seen   *recorder
	fronts map[string]string // by what the cluster speaks
	proxy  string            // of net/http
}

func newCrossing(tb testing.TB) *crossing {
	tb.Helper()
	c := &crossing{seen: &recorder{all: map[string]*saw{}}, fronts: map[string]string{}}
	s := httptest.NewUnstartedServer(c.seen)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = nil
	s.Start()
	tb.Cleanup(s.Close)
	for name, protocol := range map[string]mesh.Protocol{"h1": mesh.HTTP1, "h2": mesh.HTTP2} {
		c.fronts[name] = front(tb, s.Listener.Addr().String(), protocol, nil)
	}
	to, err := url.Parse(s.URL)
	must(tb, err)
	transport := &http.Transport{DisableCompression: true}
	tb.Cleanup(transport.CloseIdleConnections)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		r.Out.URL.RawQuery = r.In.URL.RawQuery
		r.Out.Host = r.In.Host
	}})
	tb.Cleanup(proxy.Close)
	c.proxy = proxy.Listener.Addr().String()
	return c
}

// try says m over all ways: what came out must not depend on the way.
func (c *crossing) try(t *testing.T, m *message) {
	t.Helper()
	type outcome struct{ Backend, Client *saw }
	var first *outcome
	for _, name := range slices.Sorted(maps.Keys(c.fronts)) {
		for _, h2 := range []bool{false, true} {
			way := fmt.Sprintf("h2=%t-%s", h2, name)
			got := &outcome{}
			if h2 {
				got.Client = m.askH2(t, c.fronts[name], way)
			} else {
				got.Client = m.askH1(t, c.fronts[name], way)
			}
			if got.Backend = c.seen.take(way); got.Client == nil {
				got.Backend = nil // perhaps it was refused by the backend
			}
			if first == nil {
				first = got
			} else if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("%+v by %s:\n%s", m, way, diff)
			}
		}
	}
	if plain := m.askH1(t, c.proxy, "plain"); plain != nil && first.Backend != nil {
		other := c.seen.take("plain")
		if other != nil {
			other.Trailer = first.Backend.Trailer // it passes on their names only
		}
		if diff := cmp.Diff(other, first.Backend); diff != "" {
			t.Errorf("%+v, -by net/http +by us:\n%s", m, diff)
		}
	}
}

// FuzzCrossing says one message by both protocols to backends of both.
func FuzzCrossing(f *testing.F) {
	for _, m := range []struct {
		method, target, fields, body, trailer string
		chunked                               bool
	}{
		{"GET", "/", "", "", "", false},
		{"GET", "/a%20b?c=d&e", "X-A: b\nx-a: c\nAccept: */*", "", "", false},
		{"POST", "/", "Content-Type: text/plain", "hello", "", false},
		{"POST", "/", "", "hello", "X-Sum: 5\nGrpc-Status: 0", true},
		{"PUT", "/", "Cookie: a=b\nCookie: c=d", "", "X-Sum: 5", true},
		{"OPTIONS", "*", "Trailer: X-Sum", "", "", true},
		{"HEAD", "/", "User-Agent: x\nAuthorization: Basic eA==", "", "", false},
		{"DELETE", "//a/../b;c", "X-A:", "x", "", false},
		{"GET", "/a b", "", "", "", false},
		{"GET", "/#", "", "", "", false},
		{"G(T", "/", "", "", "", false},
		{"GET", "/%zz", "", "", "", false},
		{"GET", "/", "x a: b", "", "", false},
		{"GET", "/", "x-a: b\x00", "", "", false},
		{"GET", "/", "x-a: b\x7f", "", "", false},
		{"GET", "/ä", "x-a: ünï", "", "", false},
		{"POST", "/", "", "x", "content-length: 5", true},
		{"POST", "/", "", "x", "Authorization: x\nX-B: c", true},
		{"POST", "/", "Trailer: Content-Length", "x", "", true},
		{"POST", "/", "X-Large: " + strings.Repeat("x", 30_000), strings.Repeat("y", 40_000), "", true},
	} {
		f.Add(m.method, m.target, m.fields, m.body, m.trailer, m.chunked)
	}
	c := newCrossing(f)
	f.Fuzz(func(t *testing.T, method, target, fields, body, trailer string, chunked bool) {
		m, ok := parse(method, target, fields, body, trailer, chunked)
		if !ok {
			t.Skip()
		}
		c.try(t, &m)
	})
}
