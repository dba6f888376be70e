package host_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/plugins/host"
)

// TestChildren shows that what a plugin has started ends with it.
func TestChildren(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	i := s.one(t, cast(t, "good", func(c *host.Config) { c.Env["PATH"] = os.Getenv("PATH") }))
	got, err := authenticate(t, i, "/child")
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(got.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	kill9(t, s.stats(t, "good").Pid)
	eventually(t, "it serves again", func() bool { return answers(i) == nil })
	eventually(t, "the child is gone", func() bool { return isEnded(child) })
}

// TestStubborn shows that a plugin ends though its uses do not, and that one
// that does not end is killed.
func TestStubborn(t *testing.T) {
	t.Parallel()
	for act, killed := range map[string]bool{"stubborn": false, "liar": true} {
		timings := quick()
		timings.Grace = 20 * time.Second
		if killed {
			timings.Grace = 100 * time.Millisecond
		}
		s := open(t, timings)
		s.one(t, cast(t, act))
		pid := s.stats(t, act).Pid
		s.stop()
		if log := s.log.String(); !isGone(pid) || strings.Contains(log, "plugin does not end, so it is killed") != killed {
			t.Errorf("%s: process %d is there, or should have been killed: %v\n%s", act, pid, killed, log)
		}
	}
}

// TestStop shows that what is under way may end, and that the plugin ends by
// itself.
func TestStop(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	i := s.one(t, cast(t, "good", func(c *host.Config) { c.Timeout = 3 * time.Second }))
	pid := s.stats(t, "good").Pid
	done := make(chan error, 1)
	go func() {
		_, err := authenticate(t, i, "/wait")
		done <- err
	}()
	eventually(t, "the call is under way", func() bool { return s.stats(t, "good").Active == 1 })
	s.stop()
	if err := <-done; !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v, want the call's own end", err)
	}
	if log := s.log.String(); !isGone(pid) || strings.Contains(log, "killed") || !strings.Contains(log, "a use ends") {
		t.Errorf("process %d is there, or it was killed", pid)
	}
}

// TestHostKilled kills the host: its plugin ends, too.
func TestHostKilled(t *testing.T) {
	t.Parallel()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), actVariable+"=host", "TMPDIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if isEnded(pid) {
		t.Fatal("the plugin is not there")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	eventually(t, "the plugin is gone", func() bool { return isEnded(pid) })
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestNothingLeft shows that processes that come and go leave no files, no
// goroutines and no zombies.
func TestNothingLeft(t *testing.T) { // alone, for its TMPDIR and its count
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	before := runtime.NumGoroutine()
	s := open(t, quick())
	i := s.one(t, cast(t, "good"))
	for range 3 {
		pid := s.stats(t, "good").Pid
		kill9(t, pid)
		eventually(t, "it serves again", func() bool { return s.stats(t, "good").Pid != pid && answers(i) == nil })
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files while it runs: %v, %v", left, err)
	}
	for _, act := range []string{"none", "version", "hello"} {
		if plan, err := s.Prepare(t.Context(), []host.Config{cast(t, act)}, nil); err == nil {
			plan.Abort()
			t.Errorf("%s is a plugin", act)
		}
	}
	s.stop()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// TestServeByHand shows what a user sees who starts a plugin.
func TestServeByHand(t *testing.T) {
	t.Parallel()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), actVariable+"=good")
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), "This binary is a plugin.") {
		t.Errorf("%v: %s", err, out)
	}
}
