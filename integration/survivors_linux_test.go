package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// helper is the variable that makes TestHelper the test program of another.
const helper = "SERAI_TEST_HELPER"

// TestKilled kills a test program at once, alone or with its process group, and looks for what it had started.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		kill func(pid int) error
	}{
		{"process", func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }},
		{"group", func(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHelper$", "-test.v")
			cmd.Env = append(os.Environ(), helper+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			in, err := cmd.StdinPipe() // the helper ends with it, should this test be the one that is killed
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			dir := waitReady(t, out)
			if left := survivors(t, dir); len(left) < 4 {
				t.Errorf("this should be the guardian, Consul, a parent and its child at least: %q", left)
			}
			if err := c.kill(cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
			defer os.RemoveAll(dir)

			err = harness.Until(ctx, "all to be gone", func(context.Context) error {
				cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(dir) + ".slice")
				if left := append(survivors(t, dir), cgroups...); len(left) > 0 {
					return fmt.Errorf("left: %q", left)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || strings.Contains(string(mounts), dir) {
				t.Errorf("mounts are left of %s, %v", dir, err)
			}
		})
	}
}

// waitReady gives the folder of the helper's environment once all runs.
func waitReady(t *testing.T, out io.Reader) string {
	t.Helper()
	var lines []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if dir, ok := strings.CutPrefix(scanner.Text(), "ready "); ok {
			return dir
		}
		lines = append(lines, scanner.Text())
	}
	t.Fatalf("the helper is gone:\n%s", strings.Join(lines, "\n"))
	return ""
}

// TestHelper is no test: it is what TestKilled kills.
func TestHelper(t *testing.T) {
	if os.Getenv(helper) == "" {
		return
	}
	env, err := harness.New(t.Name(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.Consul(t.Context(), harness.ConsulConfig{}); err != nil {
		t.Fatal(err)
	}
	parent, err := env.Start(harness.Command{Name: "parent", Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & echo ready; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.WaitLog(t.Context(), "ready"); err != nil {
		t.Fatal(err)
	}
	nomad, err := env.Nomad(t.Context(), harness.NomadConfig{})
	switch {
	case errors.Is(err, harness.ErrSkip):
	case err != nil:
		t.Fatal(err)
	default:
		job, err := nomad.Run(t.Context(), trivialJob)
		if err != nil {
			t.Fatal(err)
		}
		if err := nomad.WaitRunning(t.Context(), *job.ID); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println("ready " + env.Dir())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
