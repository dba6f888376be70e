package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	nomadapi "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/integration/harness"
)

// nomadWorld is a Nomad and its Consul with ACLs, whose services get their tokens by workload identity. What is called
// envoy there is Serai.
type nomadWorld struct {
	*harness.Nomad
	env           *harness.Env
	envoy, fortio string // files on the host, for raw_exec
	consul        string
	hasDocker     bool
}

// nomadLogLevel and nomadThreads are what its clients say of sidecars.
const nomadLogLevel, nomadThreads = "debug", 2

func newNomadWorld(ctx context.Context, t *testing.T) *nomadWorld {
	t.Helper()
	w := &nomadWorld{env: harness.ForTest(t), envoy: namedEnvoy(t)}
	var err error
	w.fortio, err = w.env.Tool("fortio")
	must(t, err)
	w.consul, err = w.env.Tool("consul")
	must(t, err)
	docker := dockerEngine(ctx, t, w.envoy, w.fortio)
	w.hasDocker = docker != nil
	w.Nomad, err = w.env.Nomad(ctx, harness.NomadConfig{
		ConsulACL: true, Chroot: map[string]string{w.envoy: inChroot}, CNI: []string{consulCNI(ctx, t, w.env)}, Docker: docker,
		HCL: fmt.Sprintf(`
client {
  meta {
    "connect.log_level"         = %q
    "connect.proxy_concurrency" = "%d"
    "connect.sidecar_image"     = %q
    "connect.gateway_image"     = %q
  }
}`, nomadLogLevel, nomadThreads, seraiImage, seraiImage),
		// Where allocations reach it, so that Nomad tells them of it.
		ConsulHCL: `addresses { dns = "10.99.0.2" }`,
	})
	must(t, err)
	_, err = w.Consul.API.Agent().UpdateDefaultACLToken(w.Consul.Token, nil) // names are looked up with it
	must(t, err)
	must(t, w.Consul.WriteConfigEntry(ctx, &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal, Config: map[string]any{"protocol": "http"},
	}))
	return w
}

// consulCNI is a folder with the plugin consul-cni: the machine's own, or else what stands in for it.
func consulCNI(ctx context.Context, t *testing.T, env *harness.Env) string {
	t.Helper()
	if own, err := env.Tool("consul-cni"); err == nil {
		return filepath.Dir(own)
	}
	dir := t.TempDir()
	buildHere(ctx, t, "./integration/cni", filepath.Join(dir, "consul-cni"))
	return dir
}

// buildHere builds a program of this module, static.
func buildHere(ctx context.Context, t *testing.T, of, to string) {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	build := exec.CommandContext(ctx, "go", "build", "-o", to, of)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", of, err, out)
	}
}

// namedEnvoy is our program, as a file of the name envoy.
func namedEnvoy(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	data, err := os.ReadFile(filepath.Join(root, "bin", "serai"))
	must(t, err)
	path := filepath.Join(t.TempDir(), "envoy")
	must(t, os.WriteFile(path, data, 0o755))
	return path
}

// tellIfFailed shows what a sidecar or gateway has said, if the test fails. Its log goes with the job.
func (w *nomadWorld) tellIfFailed(t *testing.T, job, task string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			text, err := w.TaskLog(job, task, "stderr")
			t.Logf("%s has said (%v):\n%s", task, err, text)
		}
	})
}

// gate is the address of the ingress gateway in bridge mode.
func (w *nomadWorld) gate(ctx context.Context) (string, error) {
	found, _, err := w.Consul.API.Catalog().Service("gate", "", (&consulapi.QueryOptions{}).WithContext(ctx))
	if err == nil && len(found) == 0 {
		err = errors.New("the gateway is not registered")
	}
	if err != nil {
		return "", err
	}
	return hostPort(found[0].ServiceAddress, found[0].ServicePort), nil
}

// gets asks a service through a gateway, until the answer has this status, and returns the body.
func (w *nomadWorld) gets(ctx context.Context, t *testing.T, gateway, service, path string, status int) string {
	t.Helper()
	var got *answer
	client := w.Namespace.Client()
	must(t, harness.Until(ctx, fmt.Sprintf("status %d of http://%s%s through %s", status, service, path, gateway), func(ctx context.Context) error {
		address, err := gateway, error(nil)
		if gateway == "gate" {
			address, err = w.gate(ctx)
		}
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			return err
		}
		req.Host = service
		if got, err = send(client, req); err == nil && got.status != status {
			err = fmt.Errorf("status %d: %s", got.status, got.body)
		}
		return err
	}))
	return got.body
}

// running are the allocations of a job that run and shall.
func running(ctx context.Context, t *testing.T, api *nomadapi.Client, job string) []*nomadapi.Allocation {
	t.Helper()
	query := (&nomadapi.QueryOptions{}).WithContext(ctx)
	list, _, err := api.Jobs().Allocations(job, false, query)
	must(t, err)
	var all []*nomadapi.Allocation
	for _, one := range list {
		if one.DesiredStatus == nomadapi.AllocDesiredStatusRun && one.ClientStatus == nomadapi.AllocClientStatusRunning {
			full, _, err := api.Allocations().Info(one.ID, query)
			must(t, err)
			all = append(all, full)
		}
	}
	return all
}

// stop stops an allocation, whose sidecar or gateway must then end by itself and well. Nomad sends SIGINT.
func (w *nomadWorld) stop(ctx context.Context, t *testing.T, alloc *nomadapi.Allocation, task string) {
	t.Helper()
	query := (&nomadapi.QueryOptions{}).WithContext(ctx)
	_, err := w.API.Allocations().Stop(alloc, query)
	must(t, err)
	must(t, harness.Until(ctx, task+" to end well", func(context.Context) error {
		now, _, err := w.API.Allocations().Info(alloc.ID, query)
		if err != nil {
			return err
		}
		return endedWell(now.TaskStates[task])
	}))
}

// endedWell tells whether a task has ended by itself, with status 0.
func endedWell(state *nomadapi.TaskState) error {
	if state == nil {
		return errors.New("there is no such task")
	}
	for _, event := range state.Events {
		if event.Type == nomadapi.TaskTerminated {
			if event.Details["exit_code"] == "0" && event.Details["signal"] == "0" {
				return nil
			}
			return fmt.Errorf("it ended so: %v", event.Details)
		}
	}
	return errors.New("it is " + state.State)
}

// shopWell waits until Consul finds n instances of shop and their sidecars well, by the checks themselves: an
// instance counts as well until, a moment after it, Nomad has registered its checks.
func (w *nomadWorld) shopWell(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for _, name := range []string{"shop", "shop-sidecar-proxy"} {
		must(t, harness.Until(ctx, fmt.Sprintf("%d instances of %s to be well", n, name), func(ctx context.Context) error {
			found, _, err := w.Consul.API.Health().Service(name, "", true, (&consulapi.QueryOptions{}).WithContext(ctx))
			if err != nil {
				return err
			}
			checked := 0
			for _, one := range found {
				if len(one.Checks) > 1 { // one is the node's
					checked++
				}
			}
			if checked < n {
				return fmt.Errorf("%d of %d are", checked, n)
			}
			return nil
		}))
	}
}

// loseNothing has f done while a service is asked through the gateway, which must not notice.
func (w *nomadWorld) loseNothing(ctx context.Context, t *testing.T, service string, f func()) {
	t.Helper()
	address, err := w.gate(ctx)
	must(t, err)
	client := &http.Client{
		Transport: &http.Transport{DialContext: w.Namespace.DialContext, MaxIdleConnsPerHost: 4},
		Timeout:   10 * time.Second,
	}
	load := harness.StartLoad(ctx, harness.LoadConfig{Client: client, URL: "http://" + address + "/echo", Header: http.Header{"Host": {service}}})
	f()
	clean(t, map[string]*harness.Load{service: load})
}
