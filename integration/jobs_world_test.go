package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	nomadapi "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/integration/harness"
)

// jobWorld is a Nomad and a Consul, both with ACLs, whose tasks may run the
// demo's services.
type jobWorld struct {
	*harness.Nomad
	env    *harness.Env
	edge   string // its URL
	consul []string
}

func newJobWorld(ctx context.Context, t *testing.T) *jobWorld {
	t.Helper()
	env := harness.ForTest(t)
	app := filepath.Join(t.TempDir(), "app")
	root, err := harness.Root()
	must(t, err)
	build := exec.CommandContext(ctx, "go", "build", "-o", app, "./integration/demo")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the demo's services: %v\n%s", err, out)
	}
	nomad, err := env.Nomad(ctx, harness.NomadConfig{ACL: true, ConsulACL: true, Chroot: map[string]string{app: "/usr/local/bin/app"}})
	must(t, err)
	w := &jobWorld{Nomad: nomad, env: env, edge: "http://127.0.0.1:8080"}
	w.consul = []string{
		"-var", "consul_address=" + nomad.Consul.HTTPAddr, "-var", "consul_grpc_address=" + nomad.Consul.GRPCAddr,
		"-var", "consul_identity=true",
	}
	for _, service := range []string{"web", "api"} {
		must(t, nomad.Consul.Protocol(ctx, service, "http"))
	}
	// What docs/jobs.md says of Consul's ACLs: the tasks of the jobs edge and dns
	// get what services of those names may do.
	_, _, err = nomad.Consul.API.ACL().BindingRuleCreate(&consulapi.ACLBindingRule{
		AuthMethod: "nomad-workloads", BindType: consulapi.BindingRuleBindTypeService, BindName: "${value.nomad_job_id}",
		Selector: `(value.nomad_job_id == "edge" or value.nomad_job_id == "dns") and "nomad_service" not in value`,
	}, (&consulapi.WriteOptions{}).WithContext(ctx))
	must(t, err)
	return w
}

// serviceArgs are the arguments of `serai job ...` for one of our services.
func serviceArgs(name string, more ...string) []string {
	args := []string{
		"service", "-var", "name=" + name, "-var", "command=/usr/local/bin/app",
		"-var", "min_healthy_time=1s", "-var", "shutdown_delay=2s", "-var", "check_path=/health", "-var", "cpu=50", "-var", "memory=64",
	}
	listen := fmt.Sprintf(`args=["service", "-name", %q, "-listen", "127.0.0.1:8080"`, name)
	if name == "web" {
		listen += `, "-upstream", "127.0.0.1:5000"`
		args = append(args, "-var", "upstreams={ api = 5000 }")
	}
	return append(append(args, "-var", listen+"]"), more...)
}

// job runs `serai job` with the management token, and wants this exit status.
func (w *jobWorld) job(ctx context.Context, t *testing.T, status int, args ...string) string {
	t.Helper()
	return w.jobAs(ctx, t, w.Token, status, args...)
}

func (w *jobWorld) jobAs(ctx context.Context, t *testing.T, token string, status int, args ...string) string {
	t.Helper()
	p, err := w.Serai(append([]string{"job"}, args...), "NOMAD_TOKEN="+token)
	must(t, err)
	got := 0
	if err := p.Wait(ctx); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatalf("serai job %s: %v", strings.Join(args, " "), err)
		}
		got = exit.ExitCode()
	}
	if got != status {
		t.Errorf("serai job %s: exit status %d, want %d:\n%s", strings.Join(args, " "), got, status, p.Log())
	}
	return p.Log()
}

// get asks the edge, from the host's side, until the answer is as wanted.
func (w *jobWorld) get(ctx context.Context, t *testing.T, path string, status int, text string) {
	t.Helper()
	w.getWith(ctx, t, path, "", status, text)
}

// getWith is get with an API key.
func (w *jobWorld) getWith(ctx context.Context, t *testing.T, path, key string, status int, text string) {
	t.Helper()
	client := w.Namespace.Client()
	must(t, harness.Until(ctx, fmt.Sprintf("status %d of %s", status, path), func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.edge+path, http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("X-Api-Key", key)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err != nil {
			return err
		}
		if resp.StatusCode != status || !strings.Contains(string(body), text) {
			return fmt.Errorf("status %d: %s", resp.StatusCode, body)
		}
		return nil
	}))
}

// restart restarts all instances in place, one after the other, each when
// Consul finds both of them well.
func (w *jobWorld) restart(ctx context.Context, t *testing.T, job string) {
	t.Helper()
	for _, alloc := range running(ctx, t, w.API, job) {
		must(t, w.API.Allocations().Restart(alloc, "", (&nomadapi.QueryOptions{}).WithContext(ctx)))
		w.waitWell(ctx, t, job)
	}
}

// waitWell waits until Consul finds two instances of a service and their sidecars
// well. It looks at the check itself: Consul takes an instance that is registered
// for well until, a moment later, Nomad has registered its check.
func (w *jobWorld) waitWell(ctx context.Context, t *testing.T, service string) {
	t.Helper()
	must(t, harness.Until(ctx, "the checks of "+service, func(ctx context.Context) error {
		checks, _, err := w.Consul.API.Health().Checks(service, (&consulapi.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		passing := 0
		for _, check := range checks {
			if check.Name == "health" && check.Status == consulapi.HealthPassing {
				passing++
			}
		}
		if passing < 2 {
			return fmt.Errorf("%d of %d pass", passing, len(checks))
		}
		return nil
	}))
	must(t, w.Consul.WaitHealthy(ctx, service+"-sidecar-proxy", 2))
}

// stop stops one instance, and waits until another has taken its place.
func (w *jobWorld) stop(ctx context.Context, t *testing.T, job string) {
	t.Helper()
	alloc := running(ctx, t, w.API, job)[0]
	query := (&nomadapi.QueryOptions{}).WithContext(ctx)
	_, err := w.API.Allocations().Stop(alloc, query)
	must(t, err)
	must(t, harness.Until(ctx, "the allocation to end", func(context.Context) error {
		now, _, err := w.API.Allocations().Info(alloc.ID, query)
		if err == nil && now.ClientStatus != nomadapi.AllocClientStatusComplete {
			err = errors.New("it is " + now.ClientStatus)
		}
		return err
	}))
	must(t, w.WaitRunning(ctx, job))
	w.waitWell(ctx, t, job)
}

// loseNothing has f done under load, which must not see anything of it.
func (w *jobWorld) loseNothing(ctx context.Context, t *testing.T, what string, f func()) {
	t.Helper()
	client := &http.Client{
		Transport: &http.Transport{DialContext: w.Namespace.DialContext, MaxIdleConnsPerHost: 4},
		Timeout:   10 * time.Second,
	}
	load := harness.StartLoad(ctx, harness.LoadConfig{Client: client, URL: w.edge + "/web/"})
	f()
	report := load.Stop()
	t.Logf("%s: %v", what, report)
	if report.Failed() > 0 || report.OK() == 0 {
		t.Errorf("%s: requests were lost", what)
	}
}
