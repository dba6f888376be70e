package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/serai-net/serai/integration/harness"
)

// TestJobsCLI types the commands that need no Nomad: scripts in testdata/jobs.
func TestJobsCLI(t *testing.T) {
	t.Parallel()
	root, err := harness.Root()
	must(t, err)
	if _, err := os.Stat(filepath.Join(root, "bin", "serai")); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "jobs"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Join(root, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
			return nil
		},
	})
}
