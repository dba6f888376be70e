package host_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/host"
)

// checksum of this test binary, once.
var checksum = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
})

// actor is a plugin that this test binary acts.
func actor(act string) (host.Config, error) {
	path, err := os.Executable()
	if err != nil {
		return host.Config{}, err
	}
	sum, err := checksum()
	return host.Config{
		Name: act, Command: path, Checksum: sum, Timeout: 10 * time.Second, Pos: "s.hcl:1",
		// The race detector sleeps for a second when a process ends.
		Env: map[string]string{actVariable: act, "GORACE": "atexit_sleep_ms=0"},
	}, err
}

// the same, with a change.
func cast(t *testing.T, act string, change ...func(*host.Config)) host.Config {
	t.Helper()
	c, err := actor(act)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range change {
		one(&c)
	}
	return c
}

// quick are timings for tests.
func quick() host.Timings {
	t := host.DefaultTimings()
	t.First, t.Last = 10*time.Millisecond, 50*time.Millisecond
	return t
}

// buffer is a log to look into.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// stage is a Set that runs.
type stage struct {
	*host.Set
	log  *buffer
	stop func() // ends Run, and waits for it
}

func open(t *testing.T, timings host.Timings) *stage {
	t.Helper()
	s := &stage{log: &buffer{}}
	s.Set = host.NewSetWith(slog.New(slog.NewTextHandler(s.log, nil)), timings)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("log:\n%s", s.log)
		}
	})
	return s
}

// commit puts a configuration in force.
func (s *stage) commit(t *testing.T, configs []host.Config, uses ...host.Use) []*host.Instance {
	t.Helper()
	plan, err := s.Prepare(t.Context(), configs, uses)
	if err != nil {
		t.Fatalf("Prepare: %v\nlog:\n%s", err, s.log)
	}
	plan.Commit()
	var instances []*host.Instance
	for n := range uses {
		instances = append(instances, plan.Instance(n))
	}
	return instances
}

// one puts one plugin with one use in force.
func (s *stage) one(t *testing.T, c host.Config) *host.Instance {
	t.Helper()
	return s.commit(t, []host.Config{c}, host.Use{Plugin: c.Name, Settings: map[string]any{"consumer": "acme"}})[0]
}

func (s *stage) stats(t *testing.T, name string) host.Stats {
	t.Helper()
	for _, one := range s.Stats() {
		if one.Name == name {
			return one
		}
	}
	t.Fatalf("no plugin %q", name)
	return host.Stats{}
}

func authenticate(t *testing.T, i *host.Instance, path string) (*plugins.Identity, error) {
	t.Helper()
	return i.Authenticate(t.Context(), &plugins.Request{Method: "GET", Path: path})
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// isGone tells whether a process is there no more, not even as a zombie.
func isGone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

func kill9(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// answers tells whether calls get through.
func answers(i *host.Instance) error {
	identity, err := i.Authenticate(context.Background(), &plugins.Request{Path: "/name/x"})
	if err == nil && identity.Consumer != "x" {
		err = fmt.Errorf("it says %q", identity.Consumer)
	}
	return err
}

// isStopped tells whether no thread of a process runs any more: a signal that stops it
// is heeded by each of them when its turn comes.
func isStopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool { return stateIn(path) != 'T' })
}

// stateIn is the state of a process or a thread, of the file of /proc that tells it; 0 if there is none.
func stateIn(path string) byte {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	if len(after) == 0 {
		return 0
	}
	return after[0]
}

// isEnded is isGone for a process that another one has to reap.
func isEnded(pid int) bool {
	state := stateIn(fmt.Sprintf("/proc/%d/stat", pid))
	return state == 'Z' || state == 'X' || state == 0 && isGone(pid)
}

// children are the processes that this one has started and not reaped.
func children(t *testing.T) []string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		if err == nil {
			all = append(all, strings.Fields(string(pids))...)
		}
	}
	return all
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
