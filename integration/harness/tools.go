package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ErrSkip is in the error of what this machine cannot do. An Env made by ForTest does not return it: it skips the test.
var ErrSkip = errors.New("skipped")

// Root is the folder of the module: the first above the working directory that has a go.mod.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find go.mod: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find go.mod: none in %s or above", start)
		}
	}
}

// Tool finds a pinned neighbour (consul, nomad, envoy, fortio, cni): what the variable NAME_BINARY says, else what
// `make tools` built, else what is on PATH. For cni it is the folder of the plugins.
func (e *Env) Tool(name string) (string, error) {
	if own := os.Getenv(strings.ToUpper(name) + "_BINARY"); own != "" {
		file, err := exec.LookPath(own)
		if err != nil {
			return "", fmt.Errorf("find %s, as %s_BINARY says: %w", name, strings.ToUpper(name), err)
		}
		return file, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	file := filepath.Join(root, ".tools", "bin", name)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if file, err := exec.LookPath(name); err == nil {
		return file, nil
	}
	return "", fmt.Errorf("find %s: neither in .tools/bin nor on PATH: run make tools", name)
}

// Envoy is the path of the Envoy binary. Where there is none the test is skipped, loudly.
func (e *Env) Envoy() (string, error) {
	file, err := e.Tool("envoy")
	if err != nil {
		return "", e.skip("Envoy is not here: " + err.Error())
	}
	return file, nil
}

// Serai starts bin/serai with these arguments; env is added to its environment ("KEY=value"). SERAI_BINARY names
// another binary.
func (e *Env) Serai(args []string, env ...string) (*Process, error) { return e.serai(nil, args, env) }

// serai is Serai in a namespace; nil is where this process runs.
func (e *Env) serai(space *Namespace, args, env []string) (*Process, error) {
	file := os.Getenv("SERAI_BINARY")
	if file == "" {
		root, err := Root()
		if err != nil {
			return nil, err
		}
		file = filepath.Join(root, "bin", "serai")
	}
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("find serai: %w: run make build", err)
	}
	name := "serai"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name += "-" + args[0]
	}
	return e.Start(Command{Name: e.unique(name), Path: file, Args: args, Env: env, Namespace: space})
}

// Skip skips the test and says so where `make test` shows it, since go test shows nothing of what passes.
func Skip(tb testing.TB, reason string) {
	tb.Helper()
	if name := os.Getenv("SERAI_SKIPS"); name != "" {
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintf(file, "%s: %s\n", tb.Name(), reason)
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			tb.Errorf("note that %s was skipped: %v", tb.Name(), err)
		}
	}
	tb.Skip("SKIPPED: " + reason)
}

func (e *Env) skip(reason string) error {
	if e.test != nil {
		e.test.Helper()
		Skip(e.test, reason)
	}
	return fmt.Errorf("%w: %s", ErrSkip, reason)
}
