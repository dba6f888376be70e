package host_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/plugins/host"
)

// TestKill kills a plugin under load: calls then fail with one error only, until
// another process serves them; the other plugin does not notice.
func TestKill(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	other := cast(t, "good", func(c *host.Config) { c.Name = "other" })
	instances := s.commit(t, []host.Config{cast(t, "good"), other},
		host.Use{Plugin: "good", Settings: map[string]any{"consumer": "a"}, Place: "one"},
		host.Use{Plugin: "good", Settings: map[string]any{"consumer": "b"}, Place: "two"},
		host.Use{Plugin: "other"})
	var stop atomic.Bool
	var calling sync.WaitGroup
	var ok, down atomic.Int64
	for _, i := range instances {
		for range 4 {
			calling.Go(func() {
				for !stop.Load() {
					switch err := answers(i); {
					case err == nil:
						ok.Add(1)
					case errors.Is(err, host.ErrUnavailable) && i != instances[2]:
						down.Add(1)
						<-time.After(time.Millisecond) // a busy caller would starve the start
					default:
						t.Error(err)
						return
					}
				}
			})
		}
	}
	pid := s.stats(t, "good").Pid
	for range 3 {
		before := ok.Load()
		eventually(t, "calls are answered", func() bool { return ok.Load() > before+100 })
		kill9(t, pid)
		eventually(t, "there is another process, and the old is gone", func() bool {
			now := s.stats(t, "good").Pid
			if now == 0 || now == pid || !isGone(pid) {
				return false
			}
			pid = now
			return true
		})
		eventually(t, "both uses are served again", func() bool { return answers(instances[0]) == nil && answers(instances[1]) == nil })
	}
	stop.Store(true)
	calling.Wait()
	stats := s.stats(t, "good")
	t.Logf("%d calls answered, %d while it was down", ok.Load(), down.Load())
	if stats.Ends != 3 || stats.Starts != 4 || stats.Unavailable < down.Load() || stats.Timeouts+stats.Violations+stats.Failed+stats.Overloads != 0 {
		t.Errorf("stats are %+v", stats)
	}
	if got, err := authenticate(t, instances[1], "/"); err != nil || got.Consumer != "b" {
		t.Errorf("the second use answers %v, %v", got, err)
	}
	if !strings.Contains(s.log.String(), `msg="plugin has ended, and is started again" plugin=good how="it ended with signal: killed"`) {
		t.Error("the log does not say how it ended")
	}
}

// TestCrash shows that a request that crashes the plugin fails alone, and that
// the log has its last words.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	i := s.one(t, cast(t, "good"))
	if _, err := authenticate(t, i, "/exit"); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	eventually(t, "it serves again", func() bool { return answers(i) == nil })
	if log := s.log.String(); !strings.Contains(log, `how="it ended with exit status 7"`) || !strings.Contains(log, `last words`) {
		t.Error("the log does not say how it ended")
	}
}

// TestFrozen shows that a process that does not run is replaced.
func TestFrozen(t *testing.T) {
	t.Parallel()
	timings := quick()
	timings.Ping, timings.Pong = 50*time.Millisecond, 5*time.Second
	s := open(t, timings)
	i := s.one(t, cast(t, "good", func(c *host.Config) { c.Timeout = 100 * time.Millisecond }))
	pid := s.stats(t, "good").Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all its threads have stopped", func() bool { return isStopped(pid) })
	if _, err := authenticate(t, i, "/"); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	eventually(t, "it serves again", func() bool { return answers(i) == nil })
	if now := s.stats(t, "good").Pid; now == pid || !isGone(pid) {
		t.Errorf("process %d is still there, and %d serves", pid, now)
	}
}

// TestWedged shows that calls that never end are bounded, and cost the plugin
// its process in the end.
func TestWedged(t *testing.T) {
	t.Parallel()
	timings := quick()
	timings.Ping, timings.Pong = 200*time.Millisecond, 3*time.Second
	s := open(t, timings)
	i := s.one(t, cast(t, "good", func(c *host.Config) { c.Timeout, c.MaxConcurrent = 100*time.Millisecond, 512 }))
	pid := s.stats(t, "good").Pid
	var stop atomic.Bool
	var calling sync.WaitGroup
	for range 256 {
		calling.Go(func() {
			for !stop.Load() {
				_, _ = authenticate(t, i, "/hang")
			}
		})
	}
	eventually(t, "the process is replaced", func() bool { return isGone(pid) })
	stop.Store(true)
	calling.Wait()
	eventually(t, "it serves again", func() bool { return answers(i) == nil })
}

// TestReload shows what lives on over a change of the configuration.
func TestReload(t *testing.T) {
	t.Parallel()
	timings := quick()
	timings.Linger = 500 * time.Millisecond
	s := open(t, timings)
	good := cast(t, "good")
	settings := func(consumer string) host.Use {
		return host.Use{Plugin: "good", Place: "p", Settings: map[string]any{"consumer": consumer, "more": []any{1.5, "x"}}}
	}
	first := s.commit(t, []host.Config{good}, settings("a"))[0]
	pid := s.stats(t, "good").Pid

	same := good
	same.Pos, same.Timeout = "s.hcl:99", 10*time.Second
	if again := s.commit(t, []host.Config{same}, settings("a"))[0]; again != first || s.stats(t, "good").Pid != pid {
		t.Error("an equal use is another one")
	}
	second := s.commit(t, []host.Config{good}, settings("b"))[0]
	if second == first || s.stats(t, "good").Pid != pid {
		t.Error("other settings are the same use, or another process")
	}
	for want, i := range map[string]*host.Instance{"a": first, "b": second} {
		if got, err := authenticate(t, i, "/"); err != nil || got.Consumer != want {
			t.Errorf("%s answers %v, %v", want, got, err)
		}
	}
	eventually(t, "the plugin closes the old use", func() bool { return strings.Contains(s.log.String(), `msg="a use ends" plugin=good consumer=a use=p`) })
	if _, err := authenticate(t, first, "/"); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("a use that has ended: %v", err)
	}

	other := good
	other.MaxConcurrent = 3
	third := s.commit(t, []host.Config{other}, settings("b"))[0]
	if now := s.stats(t, "good"); third == second || now.Pid == pid || now.Starts != 2 {
		t.Errorf("another Config has the same process %d: %+v", pid, now)
	}
	if err := answers(second); err != nil {
		t.Errorf("the old process, for exchanges that began before: %v", err)
	}
	eventually(t, "the old process ends", func() bool { return isGone(pid) })
	if err := answers(third); err != nil {
		t.Error(err)
	}
	last := s.stats(t, "good").Pid
	s.commit(t, nil)
	eventually(t, "a plugin that is not configured ends", func() bool { return isGone(last) })
	if strings.Contains(s.log.String(), "killed") {
		t.Error("a process was killed that should have ended")
	}
}

// TestAbort shows that a plan that is not wanted leaves nothing.
func TestAbort(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	good := cast(t, "good")
	first := s.one(t, good)
	more := cast(t, "good", func(c *host.Config) { c.Name = "more" })
	plan, err := s.Prepare(t.Context(), []host.Config{good, more}, []host.Use{
		{Plugin: "good", Settings: map[string]any{"consumer": "new"}}, {Plugin: "more", Settings: map[string]any{"consumer": "acme"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := authenticate(t, plan.Instance(1), "/")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(got.Set[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	busy, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Prepare(busy, nil, nil); err == nil || !strings.Contains(err.Error(), "another change of them is not over") {
		t.Errorf("a second plan: %v", err)
	}
	plan.Abort()
	plan.Commit() // has no effect
	if !isGone(pid) || len(s.Stats()) != 1 {
		t.Errorf("process %d is left, or in force", pid)
	}
	if !strings.Contains(s.log.String(), `msg="a use ends" plugin=good consumer=new`) {
		eventually(t, "the use ends", func() bool { return strings.Contains(s.log.String(), `msg="a use ends" plugin=good consumer=new`) })
	}
	if err := answers(first); err != nil {
		t.Error(err)
	}
	s.stop()
	if _, err := s.Prepare(t.Context(), nil, nil); err == nil {
		t.Error("a Set that has ended prepares")
	}
	if err := answers(first); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
}

// TestRefusedLater shows that a use that is refused after a crash fails alone,
// and serves again when the plugin takes it.
func TestRefusedLater(t *testing.T) {
	t.Parallel()
	timings := quick()
	timings.Ping = 20 * time.Millisecond
	s := open(t, timings)
	needs := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(needs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	instances := s.commit(t, []host.Config{cast(t, "good")},
		host.Use{Plugin: "good", Settings: map[string]any{"needs": needs}}, host.Use{Plugin: "good", Place: "other"})
	if err := os.Remove(needs); err != nil {
		t.Fatal(err)
	}
	kill9(t, s.stats(t, "good").Pid)
	eventually(t, "the other use serves again", func() bool { return answers(instances[1]) == nil })
	if err := answers(instances[0]); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(needs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the use serves again", func() bool { return answers(instances[0]) == nil })
}

// TestPause shows that pauses grow to their bound.
func TestPause(t *testing.T) {
	t.Parallel()
	timings := host.DefaultTimings()
	for failures, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 5: 3200 * time.Millisecond, 7: 10 * time.Second, 1000: 10 * time.Second,
	} {
		for range 100 {
			if got := time.Duration(host.Pause(timings, failures)); got < want/2 || got > want+1 {
				t.Fatalf("after %d failures: %v, want up to %v", failures, got, want)
			}
		}
	}
}

// TestFileChanges shows that a binary that is not the pinned one any more is not
// started, that a configuration that changes something else is not refused for
// it, and that one which relies on it is.
func TestFileChanges(t *testing.T) {
	t.Parallel()
	timings := quick()
	timings.Start = 10 * time.Second
	s := open(t, timings)
	path := filepath.Join(t.TempDir(), "plugin")
	good := cast(t, "good")
	pinned, changed := good.Command, filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(changed, []byte("another"), 0o700); err != nil {
		t.Fatal(err)
	}
	// By links: a program that was just written may be busy in somebody's fork.
	install := func(file string) {
		t.Helper()
		if err := errors.Join(os.Symlink(file, path+".new"), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	install(pinned)
	good.Command = path
	use := host.Use{Plugin: "good", Place: "old"}
	i := s.commit(t, []host.Config{good}, use)[0]
	install(changed)
	if err := answers(i); err != nil {
		t.Errorf("a process that runs: %v", err)
	}
	kill9(t, s.stats(t, "good").Pid)
	eventually(t, "the log says why it does not start", func() bool {
		return strings.Contains(s.log.String(), "the checksum of "+path+" is ")
	})
	if err := answers(i); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if again := s.commit(t, []host.Config{good, cast(t, "transforms")}, use, host.Use{Plugin: "transforms"})[0]; again != i {
		t.Error("the use is another one")
	}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Prepare(soon, []host.Config{good}, []host.Use{use, {Plugin: "good", Place: "new", Pos: "s.hcl:9"}}); err == nil ||
		!strings.Contains(err.Error(), `s.hcl:9: plugin "good": plugin is not running: wait for it`) {
		t.Errorf("a new use of it: %v", err)
	}
	install(pinned)
	eventually(t, "it serves when the pinned binary is back", func() bool { return answers(i) == nil })
}
