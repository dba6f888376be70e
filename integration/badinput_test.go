package integration_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// fails runs serai, which must end by itself with status 1 and tell all these texts.
func fails(t *testing.T, env *harness.Env, args, environ []string, texts ...string) *harness.Process {
	t.Helper()
	p, err := env.Serai(args, environ...)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	exit, ok := errors.AsType[*exec.ExitError](p.Wait(ctx))
	if !ok || exit.ExitCode() != 1 {
		t.Errorf("serai %s ended with %v, want status 1", strings.Join(args, " "), exit)
	}
	for _, text := range texts {
		if !strings.Contains(p.Log(), text) {
			t.Errorf("serai %s does not tell %q, but:\n%s", strings.Join(args, " "), text, p.Log())
		}
	}
	return p
}

// TestBadStart starts serai with what cannot work: it says what and ends.
func TestBadStart(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	file := func(name, text string) string {
		path := filepath.Join(env.Dir(), name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	missing := filepath.Join(env.Dir(), "missing")
	for _, c := range []struct {
		name  string
		args  []string
		texts []string
	}{
		{"no bootstrap", []string{"connect", "-c", missing}, []string{missing, "no such file"}},
		{"bootstrap is no JSON", []string{"connect", "-c", file("text.json", "- listeners")}, []string{"text.json", "JSON"}},
		{"bootstrap breaks off", []string{"connect", "-c", file("half.json", `{"node": {"id": "a"`)}, []string{"half.json"}},
		{"bootstrap has no node", []string{"connect", "-c", file("empty.json", `{}`)}, []string{"empty.json", "node"}},
		{"no proxy is named", []string{"connect"}, []string{"-sidecar-for", "-proxy-id"}},
		{"no such flag", []string{"connect", "-nothing"}, []string{"-nothing"}},
		{"no configuration", []string{"edge", "-config", missing}, []string{missing}},
		{"no such command", []string{"nothing"}, []string{"nothing"}},
	} {
		t.Run(c.name, func(t *testing.T) { fails(t, env, c.args, nil, c.texts...) })
	}
}

// TestBadConsul starts sidecars before Consul gives them what they need: each says what is missing, tries again, and
// serves as soon as it is there.
func TestBadConsul(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	t.Run("token", func(t *testing.T) {
		t.Run("of nobody", func(t *testing.T) { w.badToken(t) })
		t.Run("without permission", func(t *testing.T) { w.weakToken(t) })
	})
	t.Run("unknown proxy", func(t *testing.T) { w.unknownProxy(t) })
	t.Run("unreachable", func(t *testing.T) { w.unreachable(t) })
}

// noted waits until a process has told all texts, and wants it to live on.
func noted(t *testing.T, p *harness.Process, texts ...string) {
	t.Helper()
	for _, text := range texts {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := p.WaitLog(ctx, text)
		cancel()
		if err != nil {
			t.Error(err)
		}
	}
	select {
	case <-p.Done():
		t.Fatalf("%s should go on trying, but it ended; its log:\n%s", p.Name, p.Log())
	default:
	}
}

// sidecarAs starts our sidecar of an instance by the ID of the proxy, with some token.
func (w *world) sidecarAs(t *testing.T, i *instance, token string) {
	t.Helper()
	var err error
	i.sidecar, err = w.env.Serai([]string{"connect", "-proxy-id", i.id + "-sidecar-proxy", "-admin-bind", local(i.admin)},
		w.consul.Environ(token)...)
	must(t, err)
}

func (w *world) badToken(t *testing.T) {
	t.Helper()
	i := w.register(t, "api-bad", "api")
	w.sidecarAs(t, i, "00000000-1111-2222-3333-444444444444")
	noted(t, i.sidecar, "token")
	must(t, i.sidecar.Stop(t.Context()))
}

// weakToken uses a token that may read all and write nothing, until it may.
func (w *world) weakToken(t *testing.T) {
	t.Helper()
	const read = "node_prefix \"\" {\n  policy = \"read\"\n}\nservice_prefix \"\" {\n  policy = \"read\"\n}\n"
	i := w.register(t, "api-weak", "api")
	token, err := w.consul.PolicyToken(t.Context(), "weak", read)
	must(t, err)
	w.sidecarAs(t, i, token)
	noted(t, i.sidecar, "service:write", "api")

	policy, _, err := w.consul.API.ACL().PolicyReadByName("weak", (&consulapi.QueryOptions{}).WithContext(t.Context()))
	must(t, err)
	policy.Rules = read + "service \"api\" {\n  policy = \"write\"\n}\n"
	_, _, err = w.consul.API.ACL().PolicyUpdate(policy, (&consulapi.WriteOptions{}).WithContext(t.Context()))
	must(t, err)
	sidecarReadyWithin(t, i, 2*patience)
	must(t, i.sidecar.Stop(t.Context()))
}

// unknownProxy starts the sidecar before its instance is registered: Consul answers with silence.
func (w *world) unknownProxy(t *testing.T) {
	t.Helper()
	port := w.ports(t, 3)
	i := &instance{id: "api-late", service: "api", public: port + 1, admin: port + 2}
	i.app = startApp(t, i.id, port, "http", nil)
	begin := time.Now()
	w.sidecarAs(t, i, w.token(t, i.service))
	noted(t, i.sidecar, "not to be registered", "api-late-sidecar-proxy")
	if took := time.Since(begin); took < 9*time.Second {
		t.Errorf("it says so after %v already", took)
	}
	must(t, w.consul.RegisterService(t.Context(), w.registration(i), w.token(t, i.service)))
	sidecarReadyWithin(t, i, 2*patience)
	must(t, i.sidecar.Stop(t.Context()))
}

// unreachable starts sidecars and an edge while there is no Consul, in all ways to name a proxy.
func (w *world) unreachable(t *testing.T) {
	t.Helper()
	sidecarReady(t, w.run(t, "api-0", "api"))
	bySidecar := w.register(t, "api-1", "api")
	byID := w.register(t, "api-2", "api")
	byFile := w.register(t, "web-1", "web", "api")
	bootstrap := filepath.Join(w.env.Dir(), "bootstrap.json")
	must(t, os.WriteFile(bootstrap, w.bootstrap(t, byFile), 0o600))
	w.allow(t, "edge", "api")
	w.token(t, "edge")

	must(t, w.consul.Stop(t.Context()))
	w.connect(t, bySidecar)
	w.sidecarAs(t, byID, w.token(t, "api"))
	var err error
	byFile.sidecar, err = w.env.Serai([]string{"connect", "-c", bootstrap})
	must(t, err)
	g := w.edge(t, mesh("api"))
	cases := []struct {
		name    string
		process *harness.Process
		address string // of Consul, which it cannot reach
		url     string // that answers 200 once it can
	}{
		{"by sidecar", bySidecar.sidecar, w.consul.HTTPAddr, bySidecar.ready()},
		{"by ID", byID.sidecar, w.consul.HTTPAddr, byID.ready()},
		{"by bootstrap", byFile.sidecar, w.consul.GRPCAddr, byFile.url("api", "/")},
		{"edge", g.process, w.consul.HTTPAddr, g.url("/api")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { noted(t, c.process, c.address) })
	}
	must(t, w.consul.Start(t.Context()))
	for _, c := range cases {
		t.Run(c.name+" heals", func(t *testing.T) {
			noted(t, c.process)
			waitStatusWithin(t, c.url, http.StatusOK, 2*patience)
		})
	}
}
