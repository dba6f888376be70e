package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestBadEdgeFile starts the edge with files that are wrong. The port that they name is in use, which it would tell of
// if it came to bind one.
func TestBadEdgeFile(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	port, err := env.Port()
	must(t, err)
	taken := listenAt(t, port)
	defer taken.Close()

	const api = "  api \"a\" {\n    route \"r\" {\n      upstream {\n        addresses = [\"127.0.0.1:1\"]\n      }\n    }\n  }\n"
	listener := fmt.Sprintf("  listener \"public\" {\n    address = %q\n  }\n", local(port))
	for _, c := range []struct {
		name, text string
		texts      []string // file and line first, block, remedy
	}{
		{
			"unknown block", "edge {\n" + listener + api + "  sink \"kitchen\" {\n  }\n}\n",
			[]string{"FILE:12", "sink", "edge", "listener"},
		},
		{
			"unknown argument", "edge {\n" + listener + api + "  drain_dealy = \"1s\"\n}\n",
			[]string{"FILE:12", "drain_dealy", "edge", "drain_delay"},
		},
		{
			"wrong type", "edge {\n" + listener + api + "  drain_delay = \"soon\"\n}\n",
			[]string{"FILE:12", "drain_delay", "edge", "duration"},
		},
		{
			"wrong type in a block", "edge {\n  listener \"public\" {\n    address = 8080\n  }\n" + api + "}\n",
			[]string{"FILE:3", "listener", "address", "0.0.0.0:8080"},
		},
		{
			"duplicate listener", "edge {\n" + listener + strings.Replace(listener, "127.0.0.1", "127.0.0.2", 1) + api + "}\n",
			[]string{"FILE:5", `duplicate listener "public"`, "FILE:2"},
		},
		{
			"duplicate address", "edge {\n" + listener + strings.Replace(listener, "public", "second", 1) + api + "}\n",
			[]string{"FILE:6", `listener "second"`, "another port"},
		},
		{
			"missing file", "edge {\n  listener \"public\" {\n    address = \"" + local(port) +
				"\"\n    tls {\n      certificate_file = \"none.pem\"\n      key_file = \"none.key\"\n    }\n  }\n" + api + "}\n",
			[]string{"FILE:5", "tls", "none.pem"},
		},
		{
			"missing file in a function", "edge {\n" + listener + "  consumer \"acme\" {\n    key \"a\" {\n      key = file(\"none.key\")\n    }\n  }\n" + api + "}\n",
			[]string{"FILE:7", "key", "none.key"},
		},
		{"no HCL", "edge {\n  listener \"public\" {\n", []string{"FILE:"}},
		{"no listener", "edge {\n" + api + "}\n", []string{"FILE:1", "no listener", `listener "public" { address`}},
		{
			"two ways up", "edge {\n" + listener + strings.Replace(api, "addresses", "service = \"x\"\n        addresses", 1) + "}\n",
			[]string{"FILE:9", `route "r"`, "keep one"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(env.Dir(), strings.ReplaceAll(c.name, " ", "-")+".hcl")
			must(t, os.WriteFile(file, []byte(c.text), 0o600))
			for i := range c.texts {
				c.texts[i] = strings.ReplaceAll(c.texts[i], "FILE", file)
			}
			p := fails(t, env, []string{"edge", "-config", file}, nil, c.texts...)
			if logHas(p, "in use") {
				t.Error("it bound a port before it complained")
			}
		})
	}
}

// TestReload gives a serving edge broken files, which change nothing, and good ones, which take effect while no request
// is lost.
func TestReload(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	one, two := plainApp(t, env, "one"), plainApp(t, env, "two")
	routes := map[string]string{"stays": one, "moves": one}
	g := startGate(t, env, "", routes)
	waitStatus(t, g.url("/moves"), http.StatusOK)
	loads := map[string]*harness.Load{
		"a route that stays": load(t, g.url("/stays")),
		"a route that moves": load(t, g.url("/moves")),
		"slow answers":       loadBy(t, strict(t), g.url("/stays/slow/500ms"), 2),
		"new connections":    loadBy(t, closing(t), g.url("/stays"), 1),
	}
	for _, broken := range []string{
		"edge {",
		g.config(map[string]string{"stays": one, "moves": "nonsense = true"}),
		strings.Replace(g.config(routes), "127.0.0.1:", "127.0.0.1:x", 1),
	} {
		from := len(g.process.Log())
		g.reload(t, broken)
		eventually(t, "a complaint with the file's name", func(context.Context) error {
			if !strings.Contains(g.process.Log()[from:], filepath.Base(g.file)) {
				return errNotYet
			}
			return nil
		})
		if got := get(t, g.url("/moves")); got.status != http.StatusOK || got.body != "one" {
			t.Errorf("after a broken reload: status %d: %s", got.status, got.body)
		}
	}
	for _, to := range []struct{ upstream, name string }{{two, "two"}, {one, "one"}, {two, "two"}} {
		g.reload(t, g.config(map[string]string{"stays": one, "moves": to.upstream, "more": two}))
		eventually(t, "the route to move", func(ctx context.Context) error {
			got, err := fetch(ctx, http.DefaultClient, g.url("/moves"))
			if err == nil && got.body != to.name {
				err = errNotYet
			}
			return err
		})
		wantStatus(t, get(t, g.url("/more")), http.StatusOK)
		pause(t, 500*time.Millisecond)
	}
	// A listener moves, too: the new one serves, and the old one drains.
	old := g.addr
	port, err := env.Port()
	must(t, err)
	clean(t, loads)
	g.addr = local(port)
	g.reload(t, g.config(routes))
	waitStatus(t, g.url("/stays"), http.StatusOK)
	eventually(t, "the old port to be closed", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", old)
		if err != nil {
			return nil //nolint:nilerr // that is what is waited for
		}
		drop(conn)
		return errNotYet
	})
}

// plainApp starts an app and gives the upstream that leads to it.
func plainApp(t *testing.T, env *harness.Env, name string) string {
	t.Helper()
	port, err := env.Port()
	must(t, err)
	startApp(t, name, port, "http", nil)
	return fmt.Sprintf("addresses = [%q]", local(port))
}
