package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/serai-net/serai/integration/harness"
)

// TestConnectCLI types commands that need no Consul: scripts in testdata/connect.
func TestConnectCLI(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "connect"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
			return nil
		},
	})
}

func binDir(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	dir := filepath.Join(root, "bin")
	if _, err := os.Stat(filepath.Join(dir, "serai")); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	return dir
}

// ask runs `serai connect NAME` against the sidecar of an instance.
func (i *instance) ask(t *testing.T, name string, args ...string) string {
	t.Helper()
	all := append([]string{"connect", name, "-admin-addr", local(i.admin)}, args...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir(t), "serai"), all...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("serai %s: %v: %s", strings.Join(all, " "), err, exit.Stderr)
	}
	must(t, err)
	return string(out)
}

// TestExplainDiffTap asks running sidecars what they would do, what an update has changed, and what passes.
func TestExplainDiffTap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	must(t, w.consul.Intention(t.Context(), "web", "api", false,
		&consulapi.IntentionPermission{Action: consulapi.IntentionActionDeny, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/admin"}},
		&consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/"}}))
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceRouterConfigEntry{
		Kind: consulapi.ServiceRouter, Name: "api", Routes: []consulapi.ServiceRoute{{
			Match:       &consulapi.ServiceRouteMatch{HTTP: &consulapi.ServiceRouteHTTPMatch{PathPrefix: "/slow"}},
			Destination: &consulapi.ServiceRouteDestination{RequestTimeout: 3 * time.Second, PrefixRewrite: "/fast", NumRetries: 2, RetryOnConnectFailure: true},
		}},
	}))
	api := w.run(t, "api-1", "api")
	web := w.run(t, "web-1", "web", "api")
	w.waitOK(t, web.url("api", "/"))

	t.Run("explain", func(t *testing.T) { testExplain(t, api, web) })
	t.Run("diff", func(t *testing.T) { w.testDiff(t, web) })
	t.Run("tap", func(t *testing.T) { testTap(t, web) })
}

func testExplain(t *testing.T, api, web *instance) {
	t.Helper()
	contains := func(got string, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(got, want) {
				t.Errorf("there is no %q in:\n%s", want, got)
			}
		}
		if strings.Contains(got, "\x1b") {
			t.Errorf("colours where there is no terminal: %q", got)
		}
	}
	contains(web.ask(t, "explain", "-upstream", "api", "GET", "http://api/slow/x?y=1"),
		"listener    api:127.0.0.1:", "> path prefix /slow", "path prefix / (an earlier rule was taken)",
		"/fast/x?y=1, timeout 3s", "2 more tries on ", "connect-failure", "100 % api.default.dc1.internal.", "TLS to api.default.dc1.internal.",
		"> 127.0.0.1:", "healthy")
	contains(api.ask(t, "explain", "GET", "/admin/x", "-from", "web"),
		"caller      spiffe://", "/svc/web", "filter      rbac: answers", "result      status 403: rbac: RBAC: access denied")
	contains(api.ask(t, "explain", "GET", "/x", "-from", "web"), "filter      rbac: passes", "100 % local_app (static")
	contains(api.ask(t, "explain", "-ask", "GET", "/x", "-from", "web"), "filter      rbac: passes", "100 % local_app (static")
	contains(api.ask(t, "explain", "GET", "/x", "-from", "stranger"), "the caller is none of its principals", "status 403")

	var parsed struct {
		HTTP struct {
			Answer struct{ Status int }
		}
	}
	must(t, json.Unmarshal([]byte(api.ask(t, "explain", "-format", "json", "-from", "web", "GET", "/admin")), &parsed))
	if parsed.HTTP.Answer.Status != 403 {
		t.Errorf("got %+v", parsed)
	}
	// And it is what happens.
	waitStatus(t, web.url("api", "/admin/x"), 403)
}

func (w *world) testDiff(t *testing.T, web *instance) {
	t.Helper()
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceRouterConfigEntry{
		Kind: consulapi.ServiceRouter, Name: "api", Routes: []consulapi.ServiceRoute{{
			Match:       &consulapi.ServiceRouteMatch{HTTP: &consulapi.ServiceRouteHTTPMatch{PathPrefix: "/slow"}},
			Destination: &consulapi.ServiceRouteDestination{RequestTimeout: 9 * time.Second, PrefixRewrite: "/fast"},
		}},
	}))
	eventually(t, "the change in `serai connect diff`", func(context.Context) error {
		got := web.ask(t, "diff", "-n", "0")
		if !strings.Contains(got, "~ route api\n") || !strings.Contains(got, "timeout: 3s -> 9s") || !strings.Contains(got, ".retry: removed") {
			return fmt.Errorf("got:\n%s", got)
		}
		if strings.Contains(got, "BEGIN") {
			t.Errorf("a secret is shown:\n%s", got)
		}
		return nil
	})
}

func testTap(t *testing.T, web *instance) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir(t), "serai"), "connect", "tap", "-admin-addr", local(web.admin),
		"-format", "json", "-path", "/admin", "-status", "4xx", "-n", "2")
	cmd.Stdout = &out
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	client := strict(t)
	within(t, patience, "two lines of the tap", func(ctx context.Context) error {
		select {
		case err := <-ended:
			ended <- err
			return err
		default:
		}
		for _, path := range []string{"/admin/1", "/", "/other"} {
			if _, err := fetch(ctx, client, web.url("api", path)); err != nil {
				return err
			}
		}
		return errors.New("not yet")
	})
	must(t, <-ended)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for _, line := range lines {
		var seen struct {
			Path, Method, Direction, Cluster, Endpoint string
			Status                                     int
		}
		must(t, json.Unmarshal([]byte(line), &seen))
		if seen.Path != "/admin/1" || seen.Status != 403 || seen.Method != "GET" || seen.Direction != "outbound" ||
			!strings.HasPrefix(seen.Cluster, "api.default.dc1.internal.") || seen.Endpoint == "" {
			t.Errorf("got %s", line)
		}
	}
}
