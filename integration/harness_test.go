package integration_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestConsul starts an agent with and without ACLs, ends it in two ways, and finds its data again.
func TestConsul(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config harness.ConsulConfig
		end    func(context.Context, *harness.Consul) error
	}{
		{"acl", harness.ConsulConfig{}, func(ctx context.Context, c *harness.Consul) error { return c.Stop(ctx) }},
		{"open", harness.ConsulConfig{NoACL: true}, func(_ context.Context, c *harness.Consul) error { return c.Kill() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			env := harness.ForTest(t)
			consul, err := env.Consul(ctx, c.config)
			if err != nil {
				t.Fatal(err)
			}
			token := register(ctx, t, consul, "api")
			checkAnonymous(ctx, t, consul, c.config.NoACL)
			if err := c.end(ctx, consul); err != nil {
				t.Fatal(err)
			}
			if err := consul.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if err := consul.WaitHealthy(ctx, "api", 1); err != nil {
				t.Error(err)
			}
			if _, _, err := consul.API.Agent().Service("api-sidecar-proxy", (&consulapi.QueryOptions{}).WithContext(ctx)); err != nil {
				t.Error(err)
			}
			checkToken(ctx, t, consul, token, "api")
		})
	}
}

// TestConsulIntentions changes intentions one by one, and rotates the certificate authority.
func TestConsulIntentions(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	env := harness.ForTest(t)
	consul, err := env.Consul(ctx, harness.ConsulConfig{})
	if err != nil {
		t.Fatal(err)
	}
	get := &consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/", Methods: []string{"GET"}}}
	for _, err := range []error{
		consul.Protocol(ctx, "api", "http"),
		consul.Intention(ctx, "web", "api", true),
		consul.Intention(ctx, "edge", "api", true, get),
		consul.Intention(ctx, "web", "api", false),
		consul.Intention(ctx, "job", "api", true),
		consul.RemoveIntention(ctx, "job", "api"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	entry, _, err := consul.API.ConfigEntries().Get(consulapi.ServiceIntentions, "api", nil)
	if err != nil {
		t.Fatal(err)
	}
	intentions, ok := entry.(*consulapi.ServiceIntentionsConfigEntry)
	if !ok {
		t.Fatalf("got a %T", entry)
	}
	got := map[string]consulapi.IntentionAction{}
	for _, source := range intentions.Sources {
		got[source.Name] = source.Action
		if len(source.Permissions) > 0 {
			got[source.Name] = "permissions"
		}
	}
	want := map[string]consulapi.IntentionAction{"edge": "permissions", "web": consulapi.IntentionActionDeny}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, source := range []string{"edge", "web"} {
		if err := consul.RemoveIntention(ctx, source, "api"); err != nil {
			t.Error(err)
		}
	}
	if _, err := consul.RotateCA(ctx); err != nil {
		t.Error(err)
	}
}

// TestEnvCloses shows that nothing is left of an environment after Close, when its processes do not want to go.
func TestEnvCloses(t *testing.T) {
	t.Parallel()
	env, err := harness.New(t.Name(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	stubborn, err := env.Start(harness.Command{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; sleep 1000 & echo ready; wait; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := env.Start(harness.Command{Name: "parent", Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := stubborn.WaitLog(t.Context(), "ready"); err != nil {
		t.Error(err)
	}
	gone, ok := errors.AsType[*harness.GoneError](parent.WaitLog(t.Context(), "never written"))
	if !ok || gone.Err == nil || gone.Err.Error() != "exit status 3" {
		t.Errorf("wait for the log of a process that is gone: %v", gone)
	}
	if !parent.LeftBehind() {
		t.Error("the child of parent was not noticed")
	}
	impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := stubborn.Stop(impatient); err != nil {
		t.Error(err)
	}
	if err := env.Close(); err != nil {
		t.Error(err)
	}
	if left := survivors(t, env.Dir()); len(left) > 0 {
		t.Errorf("left running: %q", left)
	}
	if _, err := os.Stat(env.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left on disk: %s", env.Dir())
	}
	if _, err := env.Start(harness.Command{Name: "late", Path: "/bin/true"}); err == nil {
		t.Error("a closed environment starts a process")
	}
}

// survivors are the command lines of the processes that carry the environment's marker.
func survivors(t *testing.T, dir string) []string {
	t.Helper()
	var left []string
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		environ, err := os.ReadFile(file) // of a process that is gone or not ours there is none
		if err == nil && bytes.Contains(environ, []byte("SERAI_HARNESS="+dir+"\x00")) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return left
}

// register registers a service with a sidecar and gives the service's token.
func register(ctx context.Context, t *testing.T, consul *harness.Consul, name string) string {
	t.Helper()
	token, err := consul.ServiceToken(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	service := &consulapi.AgentServiceRegistration{
		Name: name, Port: 1, Address: "127.0.0.1",
		Connect: &consulapi.AgentServiceConnect{SidecarService: &consulapi.AgentServiceRegistration{}},
	}
	if err := consul.RegisterService(ctx, service, token); err != nil {
		t.Fatal(err)
	}
	if err := consul.WaitHealthy(ctx, name, 1); err != nil {
		t.Fatal(err)
	}
	return token
}

// checkAnonymous wants default deny, or that all is allowed.
func checkAnonymous(ctx context.Context, t *testing.T, consul *harness.Consul, allowed bool) {
	t.Helper()
	client, err := consul.Client("")
	if err != nil {
		t.Fatal(err)
	}
	err = client.Agent().ServiceRegisterOpts(&consulapi.AgentServiceRegistration{Name: "intruder"}, (consulapi.ServiceRegisterOpts{}).WithContext(ctx))
	status, _ := errors.AsType[consulapi.StatusError](err)
	if allowed && err != nil || !allowed && status.Code != http.StatusForbidden {
		t.Errorf("registration without a token: %v; want it allowed: %v", err, allowed)
	}
}

// checkToken wants a token that still gets a leaf of its service.
func checkToken(ctx context.Context, t *testing.T, consul *harness.Consul, token, name string) {
	t.Helper()
	client, err := consul.Client(token)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _, err := client.Agent().ConnectCALeaf(name, (&consulapi.QueryOptions{}).WithContext(ctx))
	if err != nil || leaf.Service != name {
		t.Errorf("leaf of %s: %v", name, err)
	}
}
