package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestTunnel takes raw bytes through the edge by CONNECT, to where a route says and by who may call.
func TestTunnel(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	address := accepting(t, func(conn net.Conn) {
		giveBack(conn)
		_, _ = io.WriteString(conn, "bye")
	})
	g := startGate(t, env, "", map[string]string{"one": plainApp(t, env, "one")})
	waitStatus(t, g.url("/one"), http.StatusOK)
	if got := connectBy(t, g, "db.example:5432", acmeKey, ""); !strings.HasPrefix(got, "HTTP/1.1 405 ") {
		t.Errorf("without such a route: %q", got)
	}
	api := fmt.Sprintf("  api \"db\" {\n    hosts = [\"db.example\"]\n    authenticate \"api_key\" {}\n    route \"tunnel\" {\n      connect = true\n"+
		"      upstream {\n        addresses = [%q]\n      }\n    }\n  }\n}\n", address)
	config := g.config(map[string]string{"one": fmt.Sprintf("addresses = [%q]", address)})
	g.reload(t, strings.TrimSuffix(config, "}\n")+api)
	eventually(t, "a tunnel", func(context.Context) error {
		got := connectBy(t, g, "db.example:5432", acmeKey, "hello")
		if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "\r\n\r\nhellobye") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	for _, c := range []struct{ target, key, want string }{
		{"db.example:5432", "wrong", "401"},
		{"other.example:5432", acmeKey, "405"},
		{"db.example:99", acmeKey, "200"}, // the port says nothing
	} {
		if got := connectBy(t, g, c.target, c.key, "x"); !strings.HasPrefix(got, "HTTP/1.1 "+c.want+" ") {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got := ask(t, http.MethodGet, g.url("/db"), nil); got.status != http.StatusNotFound {
		t.Errorf("a tunnel's route answers GET with %d", got.status)
	}
}

// connectBy asks for a tunnel and sends text and its end; it returns all that comes back.
func connectBy(t *testing.T, g *gate, target, key, text string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.addr)
	must(t, err)
	defer drop(conn)
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\nX-Api-Key: %[2]s\r\n\r\n", target, key)
	must(t, err)
	in := bufio.NewReader(conn)
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := in.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return head.String()
		}
	}
	if !strings.HasPrefix(head.String(), "HTTP/1.1 200 ") {
		return head.String()
	}
	_, err = io.WriteString(conn, text)
	must(t, err)
	if half, ok := conn.(*net.TCPConn); ok {
		must(t, half.CloseWrite())
	}
	rest, err := io.ReadAll(in)
	must(t, err)
	return head.String() + string(rest)
}
