package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	nomadapi "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestNomad has Nomad start sidecars and gateways of every kind as it starts Envoy: a file of that name, or an image, with
// Nomad's own arguments and bootstrap files, in each network mode that there is for it. All of it is in one cluster, whose
// Consul has ACLs.
func TestNomad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	w := newNomadWorld(ctx, t)
	w.startJobs(ctx, t)
	for name, test := range map[string]func(context.Context, *testing.T){
		"chroot":              w.testChroot,
		"exec":                w.testExec,
		"Trap4 raw_exec":      w.testRawExec,
		"Trap19 host network": w.testHostNetwork,
		"transparent proxy":   w.testTransparent,
		"api gateway":         w.testAPIGateway,
		"docker":              w.testDocker,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Of its own, since it has waited for other tests to end.
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			test(ctx, t)
		})
	}
}

// startJobs starts all of them at once, as nothing of them waits for another. Only shop has nobody yet who may call it.
func (w *nomadWorld) startJobs(ctx context.Context, t *testing.T) {
	t.Helper()
	w.outside(ctx, t)
	jobs := []string{trivialJob, gateJob(), shopJob("1"), rawJob(w.envoy, w.fortio), transparentJob(), hostJob(w.envoy), w.frontJob(ctx, t)}
	if w.hasDocker {
		jobs = append(jobs, dockJob(fortioImage))
	}
	for _, hcl := range jobs {
		_, err := w.Run(ctx, hcl)
		must(t, err)
	}
	for _, call := range [][2]string{{"gate", "raw"}, {"gate", "web"}, {"gate", "outside"}, {"entry", "shop"}, {"front", "shop"}, {"pier", "dock"}} {
		must(t, w.Consul.Intention(ctx, call[0], call[1], true))
	}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// testChroot shows that what follows is what it seems: tasks in a chroot.
func (w *nomadWorld) testChroot(ctx context.Context, t *testing.T) {
	t.Helper()
	const job = "trivial"
	must(t, w.WaitRunning(ctx, job))
	must(t, harness.Until(ctx, "the log of a task", func(context.Context) error {
		text, err := w.TaskLog(job, "echo", "stdout")
		if err == nil && !strings.Contains(text, "in the chroot") {
			err = fmt.Errorf("it is %q", text)
		}
		return err
	}))
}

// testExec: a service of two instances behind an ingress gateway, both in bridge mode; what Nomad does to one of them costs
// no request.
func (w *nomadWorld) testExec(ctx context.Context, t *testing.T) {
	t.Helper()
	const job, task = "shop", "connect-proxy-shop"
	w.tellIfFailed(t, job, task)
	w.gets(ctx, t, "gate", "shop", "/echo?status=203", http.StatusForbidden)
	must(t, w.Consul.Intention(ctx, "gate", "shop", true))
	w.gets(ctx, t, "gate", "shop", "/echo?status=203", http.StatusNonAuthoritativeInfo)
	w.shopWell(ctx, t, 2)
	w.testExposed(ctx, t)

	t.Log("restart of a sidecar alone")
	alloc := running(ctx, t, w.API, job)[0]
	w.loseNothing(ctx, t, "shop", func() {
		must(t, w.API.Allocations().Restart(alloc, task, (&nomadapi.QueryOptions{}).WithContext(ctx)))
		must(t, harness.Until(ctx, "the sidecar to be restarted", func(ctx context.Context) error {
			now, _, err := w.API.Allocations().Info(alloc.ID, (&nomadapi.QueryOptions{}).WithContext(ctx))
			if err != nil {
				return err
			}
			for name, state := range now.TaskStates {
				if name != task && state.Restarts != 0 {
					t.Fatalf("task %s was restarted as well", name)
				}
			}
			if state := now.TaskStates[task]; state.Restarts != 1 || state.State != "running" {
				return fmt.Errorf("%d restarts, %s", state.Restarts, state.State)
			}
			return nil
		}))
		w.shopWell(ctx, t, 2)
	})
	w.testQuiet(t, job, task)
	t.Log("a canary, and what follows it")
	w.loseNothing(ctx, t, "shop", func() { w.renew(ctx, t, job) })
	t.Log("stop of an instance")
	w.loseNothing(ctx, t, "shop", func() {
		w.stop(ctx, t, running(ctx, t, w.API, job)[0], task)
		w.shopWell(ctx, t, 2)
	})
}

// testQuiet: a sidecar that was stopped and started again has seen nothing that is wrong, and keeps to what Nomad allows
// it, also where a chroot shows no cgroup.
func (w *nomadWorld) testQuiet(t *testing.T, job, task string) {
	t.Helper()
	said, err := w.TaskLog(job, task, "stderr")
	must(t, err)
	if strings.Contains(said, "level=ERROR") { // a warning it may be that Consul's socket is not there yet
		t.Errorf("there is something wrong:\n%s", said)
	}
	wantTexts(t, said, fmt.Sprintf("msg=\"memory limit\" bytes=%d", 64<<20*9/10), "drained")
}

// testExposed: the check goes by the sidecar, which lets nothing else pass there.
func (w *nomadWorld) testExposed(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, port := range running(ctx, t, w.API, "shop")[0].AllocatedResources.Shared.Ports {
		if !strings.HasPrefix(port.Label, "svc_") {
			continue // the sidecar's public one
		}
		for path, status := range map[string]int{"/fortio/": http.StatusOK, "/echo": http.StatusNotFound} {
			got, err := fetch(ctx, w.Namespace.Client(), "http://"+hostPort(port.HostIP, port.Value)+path)
			must(t, err)
			wantStatus(t, got, status)
		}
		return
	}
	t.Error("no port is exposed")
}

// renew runs a new version of the service: a canary beside the old ones, which is then promoted.
func (w *nomadWorld) renew(ctx context.Context, t *testing.T, job string) {
	t.Helper()
	_, err := w.Run(ctx, shopJob("2"))
	must(t, err)
	query := (&nomadapi.QueryOptions{}).WithContext(ctx)
	var deployment string
	must(t, harness.Until(ctx, "the canary to be healthy", func(context.Context) error {
		now, _, err := w.API.Jobs().LatestDeployment(job, query)
		if err != nil {
			return err
		}
		if now == nil || now.JobVersion != 1 || now.TaskGroups["shop"].HealthyAllocs != 1 {
			return fmt.Errorf("the deployment is %+v", now)
		}
		deployment = now.ID
		return nil
	}))
	w.shopWell(ctx, t, 3)
	_, _, err = w.API.Deployments().PromoteAll(deployment, (&nomadapi.WriteOptions{}).WithContext(ctx))
	must(t, err)
	must(t, harness.Until(ctx, "the deployment to succeed", func(context.Context) error {
		now, _, err := w.API.Deployments().Info(deployment, query)
		if err == nil && now.Status != nomadapi.DeploymentStatusSuccessful {
			err = fmt.Errorf("it is %s: %s", now.Status, now.StatusDescription)
		}
		return err
	}))
	must(t, harness.Until(ctx, "the old version to be gone", func(context.Context) error {
		list, _, err := w.API.Jobs().Allocations(job, false, query)
		for _, one := range list {
			if one.JobVersion == 0 && one.ClientStatus == nomadapi.AllocClientStatusRunning {
				return fmt.Errorf("%s is running", one.Name)
			}
		}
		return err
	}))
	w.shopWell(ctx, t, 2)
}

// testRawExec: the sidecar is in no chroot, so that the path of Consul's socket, which is relative, leads nowhere.
func (w *nomadWorld) testRawExec(ctx context.Context, t *testing.T) {
	t.Helper()
	w.gets(ctx, t, "gate", "raw", "/echo?status=203", http.StatusNonAuthoritativeInfo)
	w.tellIfFailed(t, "raw", "connect-proxy-raw")
	w.stop(ctx, t, running(ctx, t, w.API, "raw")[0], "connect-proxy-raw")
}

// testTransparent: the application of a service knows nothing of its sidecar, and calls another by its virtual name.
func (w *nomadWorld) testTransparent(ctx context.Context, t *testing.T) {
	t.Helper()
	w.calls(ctx, t, "gate", "web")
}

// calls has the application of a transparent proxy call shop, by a name that only Consul's DNS knows and an address that
// only the sidecar knows.
func (w *nomadWorld) calls(ctx context.Context, t *testing.T, gateway, service string) {
	t.Helper()
	path := "/fortio/fetch2/?url=" + url.QueryEscape("http://shop.virtual.consul/echo?status=203")
	w.gets(ctx, t, gateway, service, "/echo?status=204", http.StatusNoContent)
	must(t, w.Consul.Intention(ctx, service, "shop", true))
	w.gets(ctx, t, gateway, service, path, http.StatusNonAuthoritativeInfo)
}

// frontJob is that of an API gateway, with its token and config entries: Nomad has no block for this kind.
func (w *nomadWorld) frontJob(ctx context.Context, t *testing.T) string {
	t.Helper()
	token, _, err := w.Consul.API.ACL().TokenCreate(&consulapi.ACLToken{TemplatedPolicies: []*consulapi.ACLTemplatedPolicy{{
		TemplateName: "builtin/api-gateway", TemplateVariables: &consulapi.ACLTemplatedPolicyVariables{Name: "front"},
	}}}, (&consulapi.WriteOptions{}).WithContext(ctx))
	must(t, err)
	must(t, w.Consul.WriteConfigEntry(ctx, &consulapi.APIGatewayConfigEntry{
		Kind: consulapi.APIGateway, Name: "front",
		Listeners: []consulapi.APIGatewayListener{{Name: "http", Port: frontPort, Protocol: "http"}},
	}))
	must(t, w.Consul.WriteConfigEntry(ctx, &consulapi.HTTPRouteConfigEntry{
		Kind: consulapi.HTTPRoute, Name: "front",
		Parents: []consulapi.ResourceReference{{Kind: consulapi.APIGateway, Name: "front", SectionName: "http"}},
		Rules:   []consulapi.HTTPRouteRule{{Services: []consulapi.HTTPService{{Name: "shop"}}}},
	}))
	return frontJob(w.consul, w.envoy, w.Consul.HTTPAddr, w.Consul.GRPCAddr, token.SecretID, hostPort(w.Namespace.Addr.String(), frontPort))
}

// testAPIGateway: a task runs Consul's command, as it would for Envoy.
func (w *nomadWorld) testAPIGateway(ctx context.Context, t *testing.T) {
	t.Helper()
	w.tellIfFailed(t, "front", "gateway")
	w.gets(ctx, t, hostPort(w.Namespace.Addr.String(), frontPort), "shop", "/echo?status=203", http.StatusNonAuthoritativeInfo)
	w.stop(ctx, t, running(ctx, t, w.API, "front")[0], "gateway")
}
