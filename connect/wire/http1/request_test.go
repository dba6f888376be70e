package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// describe answers with what the codec made of the request.
func describe(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %s %d.%d\n", req.Method, req.Authority, req.Path, req.Proto, req.Minor)
	for name, value := range req.Header.All() {
		fmt.Fprintf(&text, "%s: %s\n", name, value)
	}
	if req.Upgrade != "" {
		fmt.Fprintf(&text, "upgrade=%s\n", req.Upgrade)
	}
	if req.ExpectContinue {
		fmt.Fprintf(&text, "expects\n")
	}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&text, "length=%d body=%q\n", req.ContentLength, body)
		trailer := req.Body.Trailer()
		for i := range trailer.Len() {
			fmt.Fprintf(&text, "trailer %s: %s\n", trailer.At(i).Name, trailer.At(i).Value)
		}
	}
	return wire.Text(200, text.String()), nil
}

func TestMalformedRequests(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{MaxHeaderBytes: 4000, MaxHeaders: 10}, wire.ServiceFunc(describe))
	const host = "Host: a\r\n"
	for _, test := range []struct {
		name, request string
		want          int
	}{
		{"bare LF in request line", "GET / HTTP/1.1\n" + host + "\r\n", 400},
		{"bare LF after field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
		{"bare LF at end", "GET / HTTP/1.1\r\n" + host + "\n", 400},
		{"only LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
		{"bare CR in value", "GET / HTTP/1.1\r\n" + host + "a: b\rc\r\n\r\n", 400},
		{"two CR", "GET / HTTP/1.1\r\n" + host + "a: b\r\r\n\r\n", 400},
		{"NUL in value", "GET / HTTP/1.1\r\n" + host + "a: b\x00c\r\n\r\n", 400},
		{"NUL in name", "GET / HTTP/1.1\r\n" + host + "a\x00: b\r\n\r\n", 400},
		{"control in value", "GET / HTTP/1.1\r\n" + host + "a: long enough \x01 value\r\n\r\n", 400},
		{"delete in value", "GET / HTTP/1.1\r\n" + host + "a: long enough \x7f value\r\n\r\n", 400},
		{"fold", "GET / HTTP/1.1\r\n" + host + "a: b\r\n c\r\n\r\n", 400},
		{"fold with tab", "GET / HTTP/1.1\r\n" + host + "a: b\r\n\tc\r\n\r\n", 400},
		{"fold of the first field", "GET / HTTP/1.1\r\n " + host + "\r\n", 400},
		{"space before colon", "GET / HTTP/1.1\r\n" + host + "a : b\r\n\r\n", 400},
		{"tab before colon", "GET / HTTP/1.1\r\n" + host + "a\t: b\r\n\r\n", 400},
		{"space in name", "GET / HTTP/1.1\r\n" + host + "a b: c\r\n\r\n", 400},
		{"no colon", "GET / HTTP/1.1\r\n" + host + "abc\r\n\r\n", 400},
		{"empty name", "GET / HTTP/1.1\r\n" + host + ": c\r\n\r\n", 400},
		{"name not ASCII", "GET / HTTP/1.1\r\n" + host + "\xc3\xa4: c\r\n\r\n", 400},
		{"parenthesis in name", "GET / HTTP/1.1\r\n" + host + "a(b): c\r\n\r\n", 400},
		{"leading space", " GET / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"two spaces before version", "GET /  HTTP/1.1\r\n" + host + "\r\n", 400},
		{"tab", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"space after version", "GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
		{"no version", "GET /\r\n" + host + "\r\n", 400},
		{"method alone", "GET\r\n" + host + "\r\n", 400},
		{"bad method", "G@T / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"empty method", " / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"version 2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", 505},
		{"version 1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", 505},
		{"version 0.9", "GET / HTTP/0.9\r\n" + host + "\r\n", 505},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"version in lower case", "GET / http/1.1\r\n" + host + "\r\n", 400},
		{"version 1.10", "GET / HTTP/1.10\r\n" + host + "\r\n", 400},
		{"control in target", "GET /a\x01 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"target not ASCII", "GET /\xc3\xa4 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"bad escape", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"short escape", "GET /%a HTTP/1.1\r\n" + host + "\r\n", 400},
		{"relative target", "GET a HTTP/1.1\r\n" + host + "\r\n", 400},
		{"asterisk", "GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"other scheme", "GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"absolute without host", "GET http:///a HTTP/1.1\r\n" + host + "\r\n", 400},
		{"user information", "GET http://u:p@a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", 405},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
		{"two Hosts in 1.0", "GET / HTTP/1.0\r\n" + host + host + "\r\n", 400},
		{"list in Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
		{"path in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		{"user in Host", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
		{"bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400},
		{"two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400},
		{"port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400},
		{"bad literal", "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", 400},
		{"open literal", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		{"zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", 400},
		{"text after literal", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400},
		{"both lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"both lengths, other order", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 400},
		{"chunked in 1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"chunked twice in one", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
		{"other coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		{"identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", 501},
		{"vertical tab before chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \vchunked\r\n\r\n", 400},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\na", 400},
		{"same length twice", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400},
		{"list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\na", 400},
		{"signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +1\r\n\r\na", 400},
		{"negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\na", 400},
		{"hexadecimal length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x1\r\n\r\na", 400},
		{"empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\na", 400},
		{"length overflow", "POST / HTTP/1.1\r\n" + host + "Content-Length: 18446744073709551617\r\n\r\na", 400},
		{"bad Connection", "GET / HTTP/1.1\r\n" + host + "Connection: a b\r\n\r\n", 400},
		{"Connection of many names", "GET / HTTP/1.1\r\n" + host + "Connection: " + strings.Repeat("a,", 65) + "\r\n\r\n", 400},
		{"unknown expectation", "POST / HTTP/1.1\r\n" + host + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417},
		{"too many fields", "GET / HTTP/1.1\r\n" + host + strings.Repeat("a: b\r\n", 10) + "\r\n", 431},
		{"head too large", "GET / HTTP/1.1\r\n" + host + "a: " + strings.Repeat("b", 4000) + "\r\n\r\n", 431},
		{"target too long", "GET /" + strings.Repeat("b", 4000) + " HTTP/1.1\r\n" + host + "\r\n", 414},
		{"chunk size missing", chunkedRequest("\r\n"), 400},
		{"chunk size not hexadecimal", chunkedRequest("g\r\n"), 400},
		{"chunk size with 0x", chunkedRequest("0x1\r\na\r\n0\r\n\r\n"), 400},
		{"chunk size signed", chunkedRequest("+1\r\na\r\n0\r\n\r\n"), 400},
		{"chunk size overflow", chunkedRequest("10000000000000001\r\na"), 400},
		{"chunk size overflow with zeros", chunkedRequest("fffffffffffffffff\r\na"), 400},
		{"space after chunk size", chunkedRequest("1 \r\na\r\n0\r\n\r\n"), 400},
		{"space before chunk size", chunkedRequest(" 1\r\na\r\n0\r\n\r\n"), 400},
		{"bare LF after chunk size", chunkedRequest("1\na\r\n0\r\n\r\n"), 400},
		{"bare CR in extension", chunkedRequest("1;\ra\r\na\r\n0\r\n\r\n"), 400},
		{"bare LF in extension", chunkedRequest("1;a\na\r\n0\r\n\r\n"), 400},
		{"extension too long", chunkedRequest("1;" + strings.Repeat("a", 600) + "\r\na\r\n0\r\n\r\n"), 400},
		{"bytes after chunk", chunkedRequest("1\r\nab\r\n0\r\n\r\n"), 400},
		{"bare LF after chunk", chunkedRequest("1\r\na\n0\r\n\r\n"), 400},
		{"fold in trailer", chunkedRequest("0\r\na: b\r\n c\r\n\r\n"), 400},
		{"bare LF in trailer", chunkedRequest("0\r\na: b\n\r\n"), 400},
		{"length in trailer", chunkedRequest("0\r\nContent-Length: 3\r\n\r\n"), 400},
		{"length announced as trailer", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: a, Content-Length\r\n\r\n0\r\n\r\n", 400},
		{"Host in trailer", chunkedRequest("0\r\nHost: b\r\n\r\n"), 400},
		{"too many trailers", chunkedRequest("0\r\n" + strings.Repeat("a: b\r\n", 11) + "\r\n"), 400},
		{"trailers too large", chunkedRequest("0\r\na: " + strings.Repeat("b", 4000) + "\r\n\r\n"), 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := dial(t, r.addr)
			send(t, conn, test.request)
			br := bufio.NewReader(conn)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.want || !resp.Close {
				t.Errorf("got %s, close %v; want %d and close", resp.Status, resp.Close, test.want)
			}
			if _, err = io.ReadAll(resp.Body); err != nil {
				t.Error(err)
			}
			if _, err = br.ReadByte(); err == nil {
				t.Error("the connection stays open")
			}
		})
	}
}

func chunkedRequest(body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func TestRequests(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, wire.ServiceFunc(describe))
	for _, test := range []struct {
		name, request, want string
	}{
		{"origin form", "GET /a?b=c%zz HTTP/1.1\r\nHost: A:80\r\n\r\n", "GET A:80 /a?b=c%zz 1.1\n"},
		{"empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a / 1.1\n"},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET  / 1.1\n"},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET [::1]:80 / 1.1\n"},
		{"absolute form", "GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET b:81 /x?y 1.1\n"},
		{"absolute form without path", "GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET b / 1.1\n"},
		{"absolute form with query", "GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n", "GET b /?x 1.1\n"},
		{"OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS a * 1.1\n"},
		{"OPTIONS, absolute form", "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS b * 1.1\n"},
		{"method of its own", "M-SEARCH! / HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH! a / 1.1\n"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET  / 1.0\n"},
		{
			"fields", "GET / HTTP/1.1\r\nHost: a\r\nX-One:  1 \t\r\nX-TWO:\r\nx-one: \xe4\t2\r\n\r\n",
			"GET a / 1.1\nx-one: 1\nx-two: \nx-one: \xe4\t2\n",
		},
		{
			"fields of the connection",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Gone\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n" +
				"TE: gzip, trailers\r\nX-Gone: 1\r\nUpgrade: y\r\nx-stays: 1\r\n\r\n",
			"GET a / 1.1\nte: trailers\nx-stays: 1\n",
		},
		{
			"what Connection may not name",
			"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nX-Forwarded-For: c\r\nCookie: d\r\nContent-Type: e\r\nForwarded: f\r\n" +
				"Connection: host, authorization, X-Forwarded-For\r\nConnection: cookie,content-type,forwarded,x\r\nX: y\r\n\r\n",
			"GET a / 1.1\nauthorization: b\nx-forwarded-for: c\ncookie: d\ncontent-type: e\nforwarded: f\n",
		},
		{"TE without trailers", "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n", "GET a / 1.1\n"},
		{"no body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST a / 1.1\n"},
		{"body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc", "POST a / 1.1\nlength=3 body=\"abc\"\n"},
		{"body of a GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "GET a / 1.1\nlength=3 body=\"abc\"\n"},
		{
			"chunked", chunkedRequest("3;x=\"y z\"\r\nabc\r\n00A\r\n0123456789\r\n0;last\r\n\r\n"),
			"POST a / 1.1\nlength=-1 body=\"abc0123456789\"\n",
		},
		{
			"trailers", chunkedRequest("1\r\na\r\n0\r\nX-Sum: 1\r\nCookie: no\r\nX-Forwarded-For: no\r\nGrpc-Status: 0\r\n\r\n"),
			"POST a / 1.1\nlength=-1 body=\"a\"\ntrailer x-sum: 1\ntrailer grpc-status: 0\n",
		},
		{"expectation without body", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "GET a / 1.1\n"},
		{"expectation of HTTP/1.0", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na", "POST  / 1.0\nlength=1 body=\"a\"\n"},
		{"upgrade without option", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET a / 1.1\n"},
		{"upgrade of HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET a / 1.0\n"},
		{
			"upgrade to h2c", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
			"GET a / 1.1\n",
		},
		{
			"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"GET a / 1.1\nupgrade=websocket\nlength=0 body=\"\"\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := dial(t, r.addr)
			br := bufio.NewReader(conn)
			for range 2 { // the connection lives on
				send(t, conn, test.request)
				resp, body := answer(t, br, "GET")
				if diff := cmp.Diff(test.want, body); resp.StatusCode != 200 || diff != "" {
					t.Errorf("got %s\n%s", resp.Status, diff)
				}
				if strings.Contains(test.request, "HTTP/1.0") {
					if !resp.Close {
						t.Error("HTTP/1.0 is kept alive")
					}
					break
				}
			}
		})
	}
}

// TestRequestBytewise sends requests in the smallest pieces.
func TestRequestBytewise(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, wire.ServiceFunc(describe))
	conn := dial(t, r.addr)
	request := "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\nt: u\r\n\r\n"
	for i := range len(request) {
		send(t, conn, request[i:i+1])
	}
	_, body := answer(t, bufio.NewReader(conn), "POST")
	want := "POST a /a 1.1\nx: y\nlength=-1 body=\"abcd\"\ntrailer t: u\n"
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
}

// TestLargeHead makes the buffer grow.
func TestLargeHead(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, wire.ServiceFunc(describe))
	conn := dial(t, r.addr)
	br := bufio.NewReader(conn)
	for _, size := range []int{100, 4000, 5000, 20000, 60000} {
		value := strings.Repeat("v", size)
		body := strings.Repeat("b", size)
		send(t, conn, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nX-Long: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: %s\r\n\r\n", value, size, body, value))
		_, got := answer(t, br, "POST")
		want := fmt.Sprintf("POST a / 1.1\nx-long: %s\nlength=-1 body=%q\ntrailer x-sum: %s\n", value, body, value)
		if got != want {
			t.Errorf("size %d: %s", size, cmp.Diff(want, got))
		}
	}
}
