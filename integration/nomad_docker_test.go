package integration_test

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/serai-net/serai/integration/harness"
)

// Names of the images that the docker driver has.
const seraiImage, fortioImage, infraImage = "serai:test", "fortio:test", "pause:test"

// dockerEngine is a Docker engine with our image, made as `make image` makes it, and with what else Nomad needs; nil where
// there is none.
func dockerEngine(ctx context.Context, t *testing.T, binary, fortio string) *harness.Docker {
	t.Helper()
	engine, err := exec.LookPath("dockerd")
	if err != nil {
		return nil
	}
	tool, dir := imageTool(ctx, t), t.TempDir()
	docker := &harness.Docker{Engine: engine, Infra: infraImage}
	for tag, args := range map[string][]string{
		seraiImage:  {"-binary", binary},
		fortioImage: {"-binary", fortio, "-as", "/fortio"},
		// It holds a network namespace, and does nothing.
		infraImage: {"-binary", fortio, "-as", "/pause", "--", "tcp-echo", "-tcp-port", "127.0.0.1:0"},
	} {
		archive := filepath.Join(dir, tag+".tar")
		makeImage(ctx, t, tool, archive, append([]string{"-tag", tag}, args...)...)
		docker.Images = append(docker.Images, archive)
	}
	return docker
}

// testDocker: a job file in which nothing was changed from Envoy. Clients name our image, for sidecars and gateways; the
// proxy is transparent, and has the user that Nomad takes it to have.
func (w *nomadWorld) testDocker(ctx context.Context, t *testing.T) {
	t.Helper()
	if !w.hasDocker {
		harness.Skip(t, "there is no dockerd: Nomad's docker driver is not tested (on Debian: apt-get install docker.io)")
	}
	pier := hostPort(w.Namespace.Addr.String(), pierPort)
	w.gets(ctx, t, pier, "dock", "/echo?status=203", http.StatusNonAuthoritativeInfo)
	w.calls(ctx, t, pier, "dock")
	w.testSaid(ctx, t, hostPort("127.0.0.2", pierPort))
	for _, alloc := range running(ctx, t, w.API, "dock") {
		w.stop(ctx, t, alloc, map[string]string{"dock": "connect-proxy-dock", "pier": "connect-ingress-pier"}[alloc.TaskGroup])
	}
}
