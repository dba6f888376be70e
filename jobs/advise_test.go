package jobs_test

import (
	"strings"
	"testing"
	"time"

	nomad "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/jobs"
)

// good is a job of which there is nothing to say.
func good() *nomad.Job {
	job := nomad.NewServiceJob("web", "web", "global", 50)
	group := nomad.NewTaskGroup("web", 2)
	group.ShutdownDelay = new(3 * time.Second)
	group.Networks = []*nomad.NetworkResource{{Mode: "bridge"}}
	group.Services = []*nomad.Service{{
		Name: "web", PortLabel: "8080",
		Checks:  []nomad.ServiceCheck{{Type: "http", Path: "/health", Expose: true}},
		Connect: &nomad.ConsulConnect{SidecarService: &nomad.ConsulSidecarService{}, SidecarTask: sidecar("exec", 10*time.Second)},
	}}
	group.AddTask(nomad.NewTask("web", "exec"))
	return job.AddTaskGroup(group)
}

func sidecar(driver string, killed time.Duration, more ...any) *nomad.SidecarTask {
	args := append([]any{"connect", "-c", "${NOMAD_SECRETS_DIR}/envoy_bootstrap.json"}, more...)
	return &nomad.SidecarTask{
		Driver: driver, KillTimeout: &killed,
		Config: map[string]any{"command": "/usr/local/bin/serai", "args": args},
	}
}

func TestAdvise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*nomad.TaskGroup)
		image  string
		want   []string // in the lines of the advice, one after the other
	}{
		{"nothing", func(*nomad.TaskGroup) {}, "", nil},
		{"host network", func(g *nomad.TaskGroup) { g.Networks[0].Mode = "host" }, "", []string{`network mode is "host"`}},
		{"no network", func(g *nomad.TaskGroup) { g.Networks = nil }, "", []string{`network { mode = "bridge" }`}},
		{"no delay", func(g *nomad.TaskGroup) { g.ShutdownDelay = nil }, "", []string{"shutdown_delay is 0"}},
		{"one only", func(g *nomad.TaskGroup) { g.Count = new(1) }, "", []string{"count is 1"}},
		{"docker's sidecar", func(g *nomad.TaskGroup) { g.Services[0].Connect.SidecarTask = nil }, "", []string{"which no node has"}},
		{"unknown driver", func(g *nomad.TaskGroup) { g.Tasks[0].Driver = "java" }, "", []string{`task "web": no node has the driver "java"`}},
		{"raw_exec not allowed", func(g *nomad.TaskGroup) { g.Services[0].Connect.SidecarTask = sidecar("raw_exec", 10*time.Second) }, "", []string{
			`plugin "raw_exec"`,
		}},
		{"another proxy under raw_exec", func(g *nomad.TaskGroup) {
			g.Services[0].Connect.SidecarTask = &nomad.SidecarTask{Driver: "raw_exec", Config: map[string]any{"command": "envoy"}}
		}, "", []string{`no node has the driver "raw_exec"`, "alloc/tmp/consul_grpc.sock leads nowhere"}},
		{"killed too early", func(g *nomad.TaskGroup) { g.Services[0].Connect.SidecarTask = sidecar("exec", 2*time.Second) }, "", []string{
			`kill_timeout is 2s and draining takes up to 4.5s`,
		}},
		{"drains longer than Nomad's default", func(g *nomad.TaskGroup) {
			g.Services[0].Connect.SidecarTask = sidecar("exec", 0, "--drain-timeout=20s")
		}, "", []string{`kill_timeout is 5s and draining takes up to 20s`}},
		{"drains as long as it may", func(g *nomad.TaskGroup) {
			g.Services[0].Connect.SidecarTask = sidecar("exec", 0, "-drain-timeout", "4s")
		}, "", nil},
		{"edge killed too early", func(g *nomad.TaskGroup) {
			g.Tasks[0].Config = map[string]any{"command": "local/bin/serai", "args": []any{"edge"}}
			g.Tasks[0].KillTimeout = new(3 * time.Second)
		}, "", []string{`task "web": kill_timeout is 3s`}},
		{"open port", func(g *nomad.TaskGroup) {
			g.Networks[0].DynamicPorts = []nomad.Port{{Label: "http", To: 8080}}
			g.Services[0].PortLabel = "http"
		}, "", []string{"passes by the sidecar"}},
		{"check of the host", func(g *nomad.TaskGroup) { g.Services[0].Checks[0].Expose = false }, "", []string{"port 8080 of the host"}},
		{"check at the allocation", func(g *nomad.TaskGroup) {
			g.Services[0].Checks[0].Expose, g.Services[0].Checks[0].AddressMode = false, "alloc"
		}, "", nil},
		{"no sidecar, no advice", func(g *nomad.TaskGroup) {
			g.Services[0].Connect, g.ShutdownDelay, g.Networks[0].Mode = nil, nil, "host"
		}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			job := good()
			c.change(job.TaskGroups[0])
			said := jobs.Advise(job, []string{"exec"}, c.image)
			if len(said) != len(c.want) {
				t.Fatalf("got %d of advice, want %d: %v", len(said), len(c.want), said)
			}
			for i, want := range c.want {
				if !strings.Contains(said[i].String(), want) {
					t.Errorf("got %q, want %q", said[i], want)
				}
			}
		})
	}
}

// TestAdviseImage is about docker, where the clients choose the sidecar.
func TestAdviseImage(t *testing.T) {
	t.Parallel()
	job := good()
	job.TaskGroups[0].Services[0].Connect.SidecarTask = nil
	drivers := []string{"exec", "docker"}
	if said := jobs.Advise(job, drivers, ""); len(said) != 1 || !strings.Contains(said[0].Text, "would start Envoy") {
		t.Errorf("got %v", said)
	}
	if said := jobs.Advise(job, drivers, "registry.example.com/serai:1.0"); len(said) != 0 {
		t.Errorf("got %v", said)
	}
}
