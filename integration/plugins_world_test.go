package integration_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
	"github.com/serai-net/serai/plugins"
)

// pluginSwitch is the variable that makes TestPluginProcess a plugin.
const pluginSwitch = "SERAI_TEST_PLUGIN"

// TestPluginProcess is no test: it is the plugin "odd" of other tests, which does what a request's x-odd says.
func TestPluginProcess(_ *testing.T) {
	if os.Getenv(pluginSwitch) == "" {
		return
	}
	plugins.Serve(plugins.Plugin{Name: "odd", Version: "1", New: func(map[string]any, *slog.Logger) (any, error) { return odd{}, nil }})
}

// odd is a plugin as it should not be.
type odd struct{}

func (odd) Authenticate(_ context.Context, r *plugins.Request) (*plugins.Identity, error) {
	if r.Get("x-odd") == "fail" {
		return nil, errors.New("the directory of users is gone")
	}
	return &plugins.Identity{Consumer: r.Get("x-user")}, nil
}

func (odd) TransformRequest(_ context.Context, r *plugins.Request) (*plugins.RequestChange, error) {
	change := &plugins.RequestChange{}
	switch r.Get("x-odd") {
	case "hang":
		select {} // whatever its context says
	case "fail":
		return nil, errors.New("a part of me is missing")
	case "refuse":
		return nil, &plugins.Refusal{Status: http.StatusForbidden, Text: `{"error":"closed on sundays"}`, Header: []plugins.Field{{Name: "content-type", Value: "application/json"}}}
	case "path":
		change.Path = "/headers/%2f"
	case "route":
		change.Path = "/headers/../headers?moved"
	case "header":
		change.Set = []plugins.Field{{Name: "x-serai-consumer", Value: "root"}}
	case "huge":
		change.Set = []plugins.Field{{Name: "x-huge", Value: strings.Repeat("x", 2<<20)}}
	}
	return change, nil
}

func (odd) TransformResponse(_ context.Context, r *plugins.Request, _ *plugins.Response) (*plugins.ResponseChange, error) {
	switch r.Get("x-odd") {
	case "status":
		return &plugins.ResponseChange{Status: 99}, nil
	case "crash":
		os.Exit(3)
	}
	return nil, nil //nolint:nilnil // no change
}

// bundled is the path of a plugin that `make build` makes.
func bundled(t *testing.T, name string) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	file := filepath.Join(root, "bin", "plugins", name)
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("find the plugin %s: %v: run make build", name, err)
	}
	return file
}

// pinned is the block of a plugin with the checksum of its file.
func pinned(t *testing.T, name, file, more string) string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	must(t, err)
	return fmt.Sprintf("  plugin %q {\n    command = %q\n    checksum = \"sha256:%s\"\n%s  }\n", name, file, hex.EncodeToString(hash.Sum(nil)), more)
}

// pinnedOdd is the block of the plugin "odd".
func pinnedOdd(t *testing.T, more string) string {
	t.Helper()
	file, err := os.Executable()
	must(t, err)
	return pinned(t, "odd", file, "    args = [\"-test.run=^TestPluginProcess$\"]\n    env = { "+pluginSwitch+" = \"1\" }\n"+more)
}

const bobSecret = "the secret that bob and we know"

// signedAPI is an API whose callers sign.
func signedAPI(upstream, settings string) string {
	return `
  consumer "bob" { plan = "gold" }
  api "signed" {
    base_path       = "/signed"
    strip_base_path = true
    authenticate "plugin" {
      plugin   = "hmac-auth"
      settings = {
        keys = { k1 = { secret = "` + bobSecret + `", consumer = "bob" } }
        ` + settings + `
      }
    }
    route "all" {
      upstream { ` + upstream + ` }
    }
  }
`
}

// transformAPI is an API with one route and one use of a plugin.
func transformAPI(name, upstream, use string) string {
	return fmt.Sprintf("  api %q {\n    base_path = \"/%s\"\n    strip_base_path = true\n    route \"all\" {\n      plugin %s\n      upstream { %s }\n    }\n  }\n",
		name, name, use, upstream)
}

// pluginGate is an edge with plugins, which has a temporary folder of its own.
type pluginGate struct {
	*gate
	temp string
}

// startPluginGate starts an edge; blocks stand in its block "edge".
func startPluginGate(t *testing.T, env *harness.Env, blocks string) *pluginGate {
	t.Helper()
	port, err := env.Port()
	must(t, err)
	id := "edge-" + strconv.Itoa(port)
	g := &pluginGate{
		gate: &gate{id: id, addr: local(port), file: filepath.Join(env.Dir(), id+".hcl")},
		temp: filepath.Join(env.Dir(), id),
	}
	must(t, os.Mkdir(g.temp, 0o700))
	g.write(t, g.text(blocks))
	g.process, err = env.Serai([]string{"edge", "-config", g.file}, "TMPDIR="+g.temp)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, g.process.WaitLog(ctx, "listening"))
	return g
}

// text is a whole file.
func (g *pluginGate) text(blocks string) string {
	return fmt.Sprintf("edge {\n  listener \"public\" {\n    address = %q\n  }\n%s  access_log {}\n}\n", g.addr, blocks)
}

// reloads writes other blocks and waits until the edge has told the text about them.
func (g *pluginGate) reloads(t *testing.T, blocks, text string) {
	t.Helper()
	from := len(g.process.Log())
	g.reload(t, g.text(blocks))
	eventually(t, fmt.Sprintf("%q after a reload", text), func(context.Context) error {
		if !strings.Contains(g.process.Log()[from:], text) {
			return errors.New(g.process.Log()[from:])
		}
		return nil
	})
}

// pids are those of a plugin's processes, as the edge tells them, the newest last.
func (g *pluginGate) pids(t *testing.T, plugin string) []int {
	t.Helper()
	var all []int
	for _, found := range regexp.MustCompile(`msg="plugin runs" plugin=`+plugin+` pid=(\d+)`).FindAllStringSubmatch(g.process.Log(), -1) {
		pid, err := strconv.Atoi(found[1])
		must(t, err)
		all = append(all, pid)
	}
	if len(all) == 0 {
		t.Fatalf("no process of %s in the log:\n%s", plugin, g.process.Log())
	}
	return all
}

// gone waits until processes have ended.
func gone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("the end of process %d", pid), func(context.Context) error {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("it is there: %w", err)
			}
			return nil
		})
	}
}

// noFiles wants that the edge and its plugins have left nothing in the temporary folder.
func (g *pluginGate) noFiles(t *testing.T) {
	t.Helper()
	eventually(t, "an empty temporary folder", func(context.Context) error {
		left, err := os.ReadDir(g.temp)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %v", left)
		}
		return err
	})
}

// signing is what a client signs; zero values mean what is right.
type signing struct {
	keyID, secret, nonce string
	age                  time.Duration
	body                 string
	// claim is signed in the place of the path, digestOf in that of the body.
	claim, digestOf string
}

// signed asks the API "signed" for a path with a signature; what it sends can be sent again with edits.
func (g *pluginGate) signed(t *testing.T, path string, s signing) func(edits ...func(*http.Request)) *answer {
	t.Helper()
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	method := http.MethodGet
	path = "/signed" + path
	base, names := "", ""
	line := func(name, value string) {
		base += fmt.Sprintf("%q: %s\n", name, value)
		names += fmt.Sprintf(" %q", name)
	}
	header := map[string]string{}
	if s.body != "" {
		method = http.MethodPost
		sum := sha256.Sum256([]byte(or(s.digestOf, s.body)))
		header["Content-Digest"] = "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	}
	only, query, hasQuery := strings.Cut(or(s.claim, path), "?")
	line("@method", method)
	line("@authority", g.addr)
	line("@path", only)
	if hasQuery {
		line("@query", "?"+query)
	}
	if s.body != "" {
		line("content-digest", header["Content-Digest"])
	}
	input := fmt.Sprintf("(%s);created=%d;keyid=%q;nonce=%q", names[1:], time.Now().Add(-s.age).Unix(), or(s.keyID, "k1"), or(s.nonce, rand.Text()))
	mac := hmac.New(sha256.New, []byte(or(s.secret, bobSecret)))
	_, _ = io.WriteString(mac, base+`"@signature-params": `+input)
	header["Signature-Input"] = "sig1=" + input
	header["Signature"] = "sig1=:" + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + ":"
	return func(edits ...func(*http.Request)) *answer {
		t.Helper()
		edits = append([]func(*http.Request){func(r *http.Request) {
			r.Header.Del("X-Api-Key")
			for name, value := range header {
				r.Header.Set(name, value)
			}
		}}, edits...)
		return ask(t, method, g.url(path), strings.NewReader(s.body), edits...)
	}
}

// upstreamSaw reads what the path /headers tells.
func upstreamSaw(t *testing.T, got *answer) seen {
	t.Helper()
	var saw seen
	if err := json.Unmarshal([]byte(got.body), &saw); err != nil {
		t.Errorf("status %d: %v: %s", got.status, err, got.body)
	}
	return saw
}

// with sets a field of a request.
func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// wantAnswer complains about another status or text.
func wantAnswer(t *testing.T, got *answer, status int, text string) {
	t.Helper()
	if got.status != status || !strings.Contains(got.body, text) {
		t.Errorf("status %d, want %d with %q: %.300s", got.status, status, text, got.body)
	}
}
