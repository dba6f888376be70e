package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	nomadapi "github.com/hashicorp/nomad/api"
)

// TestJobs has our own command run our own specs on a real Nomad: the edge, and
// two services with sidecars. A request passes edge, sidecar, web, sidecar,
// sidecar, api, all of them Nomad's tasks; then instances are restarted, stopped
// and replaced under load.
func TestJobs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	w := newJobWorld(ctx, t)

	// All three at once, as nothing of them waits for another.
	var running sync.WaitGroup
	for _, args := range [][]string{
		serviceArgs("api"), serviceArgs("web"),
		append([]string{"edge", "-var", "min_healthy_time=1s"}, w.consul...),
	} {
		running.Go(func() { w.job(ctx, t, 0, append([]string{"run"}, args...)...) })
	}
	running.Wait()
	if t.Failed() {
		return
	}

	// The default is deny: first nobody may call web, then web may not call api.
	w.get(ctx, t, "/web/", 403, "")
	must(t, w.Consul.Intention(ctx, "edge", "web", true))
	w.get(ctx, t, "/web/", 403, "web, asked by")
	must(t, w.Consul.Intention(ctx, "web", "api", true))
	w.get(ctx, t, "/web/", 200, "web, asked by , hears from api")

	// A deployment is healthy before Consul has looked at the sidecars, which it does every 10 s.
	w.waitWell(ctx, t, "web")
	w.waitWell(ctx, t, "api")
	w.loseNothing(ctx, t, "restart of web", func() { w.restart(ctx, t, "web") })
	// The sidecar has refused connections from the moment of the signal on, as its spec has it.
	if log, err := w.TaskLog("web", "connect-proxy-web", "stderr"); err != nil || !strings.Contains(log, "accepting_for=0s") {
		t.Errorf("the sidecar of web was not told to refuse connections at once: %v\n%s", err, log)
	}
	w.loseNothing(ctx, t, "new version of web", func() {
		text := w.job(ctx, t, 0, append([]string{"run"}, serviceArgs("web", "-var", `env={ VERSION = "2" }`)...)...)
		if !strings.Contains(text, "has 1 of 2 healthy") || !strings.Contains(text, `job "web" is healthy, version 1`) {
			t.Errorf("the progress is not told:\n%s", text)
		}
	})
	w.loseNothing(ctx, t, "stop of one api", func() { w.stop(ctx, t, "api") })

	t.Run("plan", func(t *testing.T) { testJobPlan(ctx, t, w) })
	t.Run("validate", func(t *testing.T) { testJobValidate(ctx, t, w) })
	t.Run("render", func(t *testing.T) { testJobRender(ctx, t, w) })
	t.Run("refused", func(t *testing.T) { testJobRefused(ctx, t, w) })
	t.Run("failed", func(t *testing.T) { testJobFailed(ctx, t, w) })
	t.Run("own configuration", func(t *testing.T) { testJobConfig(ctx, t, w) })
	t.Run("dns", func(t *testing.T) { testJobDNS(ctx, t, w) })
}

func wantTexts(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, one := range wanted {
		if !strings.Contains(text, one) {
			t.Errorf("%q is not told:\n%s", one, text)
		}
	}
}

func testJobPlan(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	same := w.job(ctx, t, 0, append([]string{"plan"}, serviceArgs("api")...)...)
	wantTexts(t, same, "Nothing would change")
	other := w.job(ctx, t, 1, append([]string{"plan"}, serviceArgs("api", "-var", "count=3")...)...)
	wantTexts(t, other, `~ Count = "2" -> "3"`, "1 to start", "Job modify index: ")
	if strings.Contains(other, "\x1b") {
		t.Errorf("there are colours, and no terminal:\n%q", other)
	}
	// Somebody else has changed the job since.
	late := w.job(ctx, t, 1, append([]string{"run", "-check-index", "1"}, serviceArgs("api", "-var", "count=3")...)...)
	wantTexts(t, late, "somebody has changed it since")
	info, _, err := w.API.Jobs().Info("api", (&nomadapi.QueryOptions{}).WithContext(ctx))
	must(t, err)
	if *info.TaskGroups[0].Count != 2 {
		t.Errorf("the plan, or the refused run, changed the job")
	}
}

func testJobValidate(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	for _, name := range []string{"edge", "dns"} {
		wantTexts(t, w.job(ctx, t, 0, "validate", "-strict", name), `job "`+name+`" is valid`)
	}
	w.job(ctx, t, 0, append([]string{"validate", "-strict"}, serviceArgs("web")...)...)
	// Valid, but this node has no docker.
	wantTexts(t, w.job(ctx, t, 1, "validate", "-strict", "service-docker", "-var", "name=web", "-var", "image=web:1"),
		"without sidecar_task it is started by docker, which no node has", `no node has the driver "docker"`)
	file := filepath.Join(w.env.Dir(), "bad.hcl")
	must(t, os.WriteFile(file, []byte("job \"bad\" {\n  group \"g\" {\n    cuont = 2\n    nonsense = 1\n    task \"t\" {\n      driver = \"exec\"\n    }\n  }\n}\n"), 0o600))
	for _, command := range []string{"validate", "run"} {
		wantTexts(t, w.job(ctx, t, 1, command, file), file+":3,5-10", `"cuont" is not expected here`, "3 |     cuont = 2",
			file+":4,5-13", "The arguments here are count,")
	}
	wantTexts(t, w.job(ctx, t, 255, "plan", file), file+":3,5-10")
}

// testJobRender shows that what is rendered is what is run.
func testJobRender(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	file := filepath.Join(w.env.Dir(), "api.nomad.hcl")
	w.job(ctx, t, 0, append([]string{"render", "-out", file}, serviceArgs("api")...)...)
	wantTexts(t, w.job(ctx, t, 0, "plan", file), "Nothing would change")
	text, err := os.ReadFile(file)
	must(t, err)
	rendered, err := w.API.Jobs().ParseHCL(string(text), true)
	must(t, err)
	info, _, err := w.API.Jobs().Submission("api", 0, (&nomadapi.QueryOptions{}).WithContext(ctx))
	must(t, err)
	submitted, err := w.API.Jobs().ParseHCLOpts(&nomadapi.JobsParseRequest{JobHCL: info.Source, Variables: info.Variables, Canonicalize: true})
	must(t, err)
	if diff := cmp.Diff(submitted, rendered); diff != "" {
		t.Errorf("what was run and what is rendered differ (-run +rendered):\n%s", diff)
	}
}

// testJobRefused asks with what Nomad does not let pass.
func testJobRefused(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	reader, err := w.PolicyToken(ctx, "reader", `namespace "default" { capabilities = ["list-jobs", "read-job", "parse-job"] }`)
	must(t, err)
	// What it may do is enough to validate, but not to look at nodes.
	wantTexts(t, w.jobAs(ctx, t, reader, 0, "validate", "edge"), "may not read nodes", `job "edge" is valid`)
	wantTexts(t, w.jobAs(ctx, t, reader, 255, "plan", "edge"), `capability "submit-job" in namespace "default"`)
	for _, c := range []struct {
		name, token string
		args        []string
		texts       []string
	}{
		{"no token", "", []string{"run", "edge"}, []string{"403", "no token was given", "-token or NOMAD_TOKEN", `capability "parse-job" in namespace "default"`}},
		{"unknown token", "6c2ddfd0-0000-0000-0000-000000000000", []string{"run", "edge"}, []string{"403", "does not know the token"}},
		{"token may not submit", reader, []string{"run", "edge"}, []string{"403", `capability "submit-job" in namespace "default"`}},
		{"unknown namespace", w.Token, []string{"run", "-namespace", "shop", "edge"}, []string{`nomad namespace apply shop`}},
		{"unknown region", w.Token, []string{"run", "-region", "mars", "edge"}, []string{"no such region"}},
		{"unreachable", w.Token, []string{"run", "-address", "http://127.0.0.1:1", "edge"}, []string{
			"cannot be reached at http://127.0.0.1:1", "connection refused", "NOMAD_ADDR",
		}},
		{"no TLS there", w.Token, []string{"run", "-address", "https://127.0.0.1:4646", "edge"}, []string{"speaks no TLS", "http://"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantTexts(t, w.jobAs(ctx, t, c.token, 1, c.args...), c.texts...)
		})
	}
}

// brokenJob is a job whose task cannot start, and whose deployment fails of it at
// once.
const brokenJob = `
job "broken" {
  update {
    progress_deadline = "0s"
    min_healthy_time  = "1s"
  }
  reschedule {
    attempts  = 0
    unlimited = false
  }
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo no such database >&2; exit 3"]
      }
      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
`

func testJobFailed(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	file := filepath.Join(w.env.Dir(), "broken.hcl")
	must(t, os.WriteFile(file, []byte(brokenJob), 0o600))
	wantTexts(t, w.job(ctx, t, 1, "run", file), "Exit Code: 3", "no such database", "failed")
}

// ownConfig is the edge's configuration as docs/jobs.md has it.
const ownConfig = `edge {
  id = "edge-${env("NOMAD_ALLOC_ID")}"
  listener "public" {
    address = ":${env("NOMAD_PORT_http")}"
  }
  consumer "acme" {
    key "ci" { key = "{{ with nomadVar "nomad/jobs/edge" }}{{ .acme_key }}{{ end }}" }
  }
  api "shop" {
    authenticate "api_key" {}
    route "web" {
      path_prefix = "/shop"
      upstream { service = "web" }
    }
  }
}
`

// testJobConfig gives the edge a configuration with a key that Nomad keeps, and
// changes the key: the edge reads it again without a restart.
func testJobConfig(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	setKey := func(key string) {
		_, _, err := w.API.Variables().Update(&nomadapi.Variable{
			Path: "nomad/jobs/edge", Items: nomadapi.VariableItems{"acme_key": key},
		}, (&nomadapi.WriteOptions{}).WithContext(ctx))
		must(t, err)
	}
	setKey("first")
	w.job(ctx, t, 0, append([]string{"run", "edge", "-var", "min_healthy_time=1s", "-var", "config=" + ownConfig}, w.consul...)...)
	w.getWith(ctx, t, "/shop/", "first", 200, "web, asked by acme, hears from api")
	w.getWith(ctx, t, "/shop/", "second", 401, "")
	alloc := running(ctx, t, w.API, "edge")[0]
	setKey("second")
	w.getWith(ctx, t, "/shop/", "second", 200, "web, asked by acme, hears from api")
	w.getWith(ctx, t, "/shop/", "first", 401, "")
	for name, state := range running(ctx, t, w.API, "edge")[0].TaskStates {
		if state.Restarts != 0 || running(ctx, t, w.API, "edge")[0].ID != alloc.ID {
			t.Errorf("the new key restarted task %q", name)
		}
	}
}
