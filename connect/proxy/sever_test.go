package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/serai-net/serai/connect/xds/resource"
)

// When a chain does not believe any more who signed a peer's certificate, that peer's
// connections end, and no others.
func TestDistrustedPeersLeave(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"app": says(t, "a")})
	first, second := issue(t, "first root", nil), issue(t, "second root", nil)
	certificate, key := issue(t, "server", nil).pem(t)
	raw, web := freeAddress(t), freeAddress(t)
	trust := func(roots ...*issued) {
		t.Helper()
		all := ""
		for _, root := range roots {
			text, _ := root.pem(t)
			all += text
		}
		common := fmt.Sprintf(`,"validation_context":{"trusted_ca":{"inline_string":%q}}`, all)
		const required = `,"require_client_certificate":true`
		d.push(t, resource.ListenerType, nil, listener("raw", raw, "", secured(tcpChain("", "app"), certificate, key, common, required)),
			listener("web", web, "", secured(httpChain("nowhere", everybody), certificate, key, common, required)))
	}
	dial := func(address string, shown *issued) *tls.Conn {
		t.Helper()
		conn, err := shake(t, address, "", shown)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	trust(first, second)
	old, current := issue(t, "web", first), issue(t, "web", second)
	oldRaw, currentRaw, oldWeb, currentWeb := dial(raw, old), dial(raw, current), dial(web, old), dial(web, current)
	for _, conn := range []*tls.Conn{oldRaw, currentRaw} {
		expect(t, conn, "word", "aword")
	}
	request := func(conn *tls.Conn) {
		t.Helper()
		resp, err := http.ReadResponse(bufio.NewReader(ask(t, conn)), nil)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable { // there is no such cluster
			t.Fatalf("%+v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body) //nolint:errcheck // what is there
		resp.Body.Close()
	}
	request(oldWeb)
	request(currentWeb)

	trust(second, first) // the same ones
	for _, conn := range []*tls.Conn{oldRaw, currentRaw} {
		expect(t, conn, "still", "still")
	}
	request(oldWeb)

	trust(second)
	closes(t, oldRaw)
	closes(t, oldWeb)
	expect(t, currentRaw, "still", "still")
	request(currentWeb)
	if conn, err := shake(t, raw, "", old); err == nil { // in TLS 1.3 the refusal comes after that
		closes(t, conn)
	}
	expect(t, dial(raw, current), "word", "aword")
}
