package jobs_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/jobs"
)

var update = flag.Bool("update", false, "write the golden files")

// required are values for what has no default.
func required(spec string) []string {
	switch spec {
	case "service":
		return []string{"name=web", "command=/usr/local/bin/web", `upstreams={ api = 5000 }`, "check_path=/health"}
	case "service-docker":
		return []string{"name=web", "image=registry.example.com/web:1.0", `args=["-v", "a,b"]`}
	case "edge":
		return []string{"config=edge {\n  listener \"public\" {\n    address = \":${env(\"NOMAD_PORT_http\")}\"\n  }\n}\n"}
	default:
		return nil
	}
}

// TestRender renders every spec, with values and without, and reads the result.
func TestRender(t *testing.T) {
	t.Parallel()
	for _, spec := range jobs.Specs() {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			file, err := spec.File()
			if err != nil {
				t.Fatal(err)
			}
			values, err := file.Values(jobs.Input{Vars: required(spec.Name)})
			if err != nil {
				t.Fatal(err)
			}
			text, err := file.Render(values)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, spec.Name+".nomad.hcl", text)
			again, err := jobs.ParseFile("again", text)
			if err != nil {
				t.Fatal(err)
			}
			// The values are the defaults now: none is missing, none breaks a rule.
			none, err := again.Values(jobs.Input{})
			if err != nil {
				t.Fatal(err)
			}
			same, err := again.Render(none)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(text), string(same)); diff != "" {
				t.Errorf("rendered again it is another text (-first +second):\n%s", diff)
			}
		})
	}
}

// TestRenderNothing shows that a spec is written as it is formatted.
func TestRenderNothing(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"edge", "dns"} {
		file, err := jobs.Open(spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		values, err := file.Values(jobs.Input{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := file.Render(values)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(file.Text), string(text)); diff != "" {
			t.Errorf("%s without values is not the spec itself (-spec +rendered):\n%s", spec, diff)
		}
	}
}

// TestTwins holds the two service specs together: what both have is the same.
func TestTwins(t *testing.T) {
	t.Parallel()
	exec, err := jobs.Open("service", nil)
	if err != nil {
		t.Fatal(err)
	}
	docker, err := jobs.Open("service-docker", nil)
	if err != nil {
		t.Fatal(err)
	}
	only := map[string]bool{"command": true, "image": true}
	for _, v := range exec.Variables {
		twin := find(docker, v.Name)
		if strings.HasPrefix(v.Name, "sidecar_") != (twin == nil) && !only[v.Name] {
			t.Errorf("variable %q is in one of them only", v.Name)
		}
		if twin == nil || only[v.Name] {
			continue
		}
		if diff := cmp.Diff([]string{v.Type, v.Default, v.Description}, []string{twin.Type, twin.Default, twin.Description}); diff != "" {
			t.Errorf("variable %q differs (-service +service-docker):\n%s", v.Name, diff)
		}
	}
}

// TestVariables wants every variable of ours to say what it is for.
func TestVariables(t *testing.T) {
	t.Parallel()
	for _, spec := range jobs.Specs() {
		file, err := spec.File()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range file.Variables {
			if v.Description == "" || v.Type == "any" {
				t.Errorf("%s: variable %q has no description or no type", spec.Name, v.Name)
			}
		}
	}
}

func find(file *jobs.File, name string) *jobs.Variable {
	for _, v := range file.Variables {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// golden compares with a file of testdata; -update writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}
