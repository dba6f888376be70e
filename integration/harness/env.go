package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	closeTime = 30 * time.Second // in which an Env stops all that is in it
	stopTime  = 10 * time.Second // from SIGTERM to SIGKILL
)

// Env is a set of processes with one folder, one set of ports and one end. Its methods may be called by several
// goroutines at once.
type Env struct {
	// set by New
	name     string
	dir      string
	logf     func(format string, args ...any)
	test     testing.TB // nil outside of tests
	guardian *guardian
	ports    *ports

	// mu guards:
	mu        sync.Mutex
	closed    bool
	processes []*Process
	cleanups  []func(context.Context) error
}

// New makes an environment. The name is part of its folder's; logf is told what starts and what fails (nil: nobody
// is). The caller must Close it.
func New(name string, logf func(format string, args ...any)) (*Env, error) {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	dir, err := os.MkdirTemp("", "serai-"+folderName(name)+"-")
	if err != nil {
		return nil, fmt.Errorf("make folder of %s: %w", name, err)
	}
	// Nomad's tasks run as nobody and must get through.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "logs"), 0o755)); err != nil {
		return nil, fmt.Errorf("make folder of %s: %w", name, err)
	}
	guardian, err := newGuardian(environ(dir))
	if err != nil {
		return nil, err
	}
	return &Env{name: name, dir: dir, logf: logf, guardian: guardian, ports: newPorts()}, nil
}

// ForTest makes an environment that ends with the test. If the test failed its logs are kept, and the log says where
// they are and how each of them ends.
func ForTest(tb testing.TB) *Env {
	tb.Helper()
	e, err := New(tb.Name(), tb.Logf)
	if err != nil {
		tb.Fatal(err)
	}
	e.test = tb
	tb.Cleanup(func() {
		failed := tb.Failed()
		if failed {
			e.tails(40) // before the stop, which would be all that they tell
		}
		if err := e.stopAll(); err != nil {
			tb.Errorf("close environment: %v", err)
		}
		if tb.Failed() && !failed {
			e.tails(40)
		}
		if err := e.end(!tb.Failed()); err != nil {
			tb.Errorf("close environment: %v", err)
		}
	})
	return e
}

// Dir is the folder of the environment. Close removes it.
func (e *Env) Dir() string { return e.dir }

// Port gives a TCP and UDP port that no other environment on this machine gets, until Close.
func (e *Env) Port() (int, error) { return e.ports.take(1) }

// Ports gives the first of n ports in a row, as Port does.
func (e *Env) Ports(n int) (int, error) { return e.ports.take(n) }

// OnClose runs f when the environment ends, before processes started earlier than this call are stopped.
func (e *Env) OnClose(f func(context.Context) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cleanups = append(e.cleanups, f)
}

// Close stops everything, last started first, and removes the folder. A second call does nothing.
func (e *Env) Close() error {
	return errors.Join(e.stopAll(), e.end(true))
}

// stopAll runs the cleanups, last first.
func (e *Env) stopAll() error {
	e.mu.Lock()
	cleanups := slices.Clone(e.cleanups)
	e.cleanups, e.closed = nil, true
	e.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	var errs []error
	for _, f := range slices.Backward(cleanups) {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// end lets the guardian sweep and gives back the ports.
func (e *Env) end(remove bool) error {
	err := errors.Join(e.guardian.close(), e.ports.close())
	if remove {
		err = errors.Join(err, os.RemoveAll(e.dir))
	}
	return err
}

// tails logs where the logs are, and the last lines of each.
func (e *Env) tails(lines int) {
	e.mu.Lock()
	processes := slices.Clone(e.processes)
	e.mu.Unlock()
	e.logf("logs are kept in %s", filepath.Join(e.dir, "logs"))
	var seen []string
	for _, p := range processes {
		if slices.Contains(seen, p.log) {
			continue
		}
		seen = append(seen, p.log)
		e.logf("--- %s, last lines ---\n%s", p.log, p.tail(lines))
	}
}

// Until calls f every few milliseconds until it returns nil, or a *GoneError, or ctx ends; then the error holds f's
// last one. What is named in it: "wait for WHAT".
func Until(ctx context.Context, what string, f func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := f(ctx)
		if last == nil {
			return nil
		}
		if _, gone := errors.AsType[*GoneError](last); gone {
			return fmt.Errorf("wait for %s: %w", what, last)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// folderName makes a short name of letters, digits and dashes, since paths of unix sockets are bounded.
func folderName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
	return name[:min(len(name), 24)]
}
