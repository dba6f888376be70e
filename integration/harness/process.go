package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// logTime bounds the wait for what a process has to write.
const logTime = 2 * time.Minute

// marker is the variable in the environment of all that a harness starts. It names the folder of the Env.
const marker = "SERAI_HARNESS"

// Command says what to start.
type Command struct {
	Name      string     // of the process in messages and of its log: logs/NAME.log
	Path      string     // of the binary
	Args      []string   // without the name of the binary
	Env       []string   // added to the environment
	Dir       string     // working directory; empty: the Env's folder
	Namespace *Namespace // to run in; nil: where this process runs
}

// Process is a process in a group of its own. A Process is not started twice.
type Process struct {
	// Name is the Command's.
	Name string

	// set by Start
	env  *Env
	cmd  *exec.Cmd
	log  string
	from int64 // length of the log before the start

	left atomic.Bool

	// done is closed when the process is gone; err is set before.
	done chan struct{}
	err  error
}

// Start starts a process. It is stopped when the Env ends, if not before. Processes of one name share one log.
func (e *Env) Start(c Command) (*Process, error) { return e.start(c, &syscall.SysProcAttr{}) }

func (e *Env) start(c Command, attr *syscall.SysProcAttr) (*Process, error) {
	p := &Process{Name: c.Name, env: e, done: make(chan struct{})}
	p.log = filepath.Join(e.dir, "logs", c.Name+".log")
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer out.Close()
	if info, err := out.Stat(); err == nil {
		p.from = info.Size()
	}
	//nolint:noctx // a process ends by Stop, Kill or Close, which first ask it kindly
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = c.Dir
	if p.cmd.Dir == "" {
		p.cmd.Dir = e.dir
	}
	p.cmd.Env = append(environ(e.dir), c.Env...)
	p.cmd.SysProcAttr = attr

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("start %s: the environment is closed", c.Name)
	}
	started := make(chan error, 1)
	go p.run(c.Namespace, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	e.processes = append(e.processes, p)
	e.cleanups = append(e.cleanups, p.Stop)
	line, _, _ := strings.Cut(strings.Join(c.Args, " "), "\n")
	e.logf("started %s, pid %d: %s %s", p.Name, p.PID(), filepath.Base(c.Path), line)
	return p, nil
}

// run starts the process and waits for its end, all on one thread which dies with it (see package comment).
func (p *Process) run(ns *Namespace, started chan<- error) {
	onThread(func() {
		if err := spawn(p.cmd, ns); err != nil {
			started <- err
			return
		}
		p.env.guardian.add(p.PID())
		started <- nil
		err := p.cmd.Wait()
		// A group outlives its leader as long as it has a member, and only then can its number not have been given
		// to another.
		if p.signalGroup(syscall.SIGKILL) == nil {
			p.left.Store(true)
			p.env.logf("%s left processes of its own behind, killed", p.Name)
		}
		p.env.guardian.forget(p.PID())
		p.err = err
		close(p.done)
	})
}

// PID is the process ID, seen from here.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// LeftBehind says, once it is gone, that it left processes of its own running. They were killed.
func (p *Process) LeftBehind() bool { return p.left.Load() }

// Wait waits for the end of the process and returns what exec.Cmd.Wait does: nil for exit status 0, *exec.ExitError
// for another. It returns the cause of ctx if that ends first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.Name, context.Cause(ctx))
	}
}

// Signal sends a signal to the process, not to its children.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill kills the process and its children at once, and waits for its end.
func (p *Process) Kill() error {
	_ = p.signalGroup(syscall.SIGKILL) // gone already is as good
	<-p.done
	return nil
}

// Stop sends SIGTERM and waits for the end; after ten seconds, or when ctx ends, it kills. How the process exits is no
// error: ask Wait.
func (p *Process) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.env.logf("%s does not stop, killed", p.Name)
		return p.Kill()
	}
	return nil
}

// Log is what the process has written so far.
func (p *Process) Log() string {
	all, err := os.ReadFile(p.log)
	if err != nil || int64(len(all)) < p.from {
		return ""
	}
	return string(all[p.from:])
}

// LogPath is the file that it writes to.
func (p *Process) LogPath() string { return p.log }

// WaitLog waits until the process has written the text, for two minutes at most.
func (p *Process) WaitLog(ctx context.Context, text string) error {
	ctx, cancel := bounded(ctx, logTime)
	defer cancel()
	return Until(ctx, fmt.Sprintf("%q in the log of %s", text, p.Name), func(context.Context) error {
		gone := p.gone()
		if strings.Contains(p.Log(), text) {
			return nil
		}
		return gone
	})
}

// gone is the error of waiting for a process: still waiting, or never to come.
func (p *Process) gone() error {
	select {
	case <-p.done:
		return &GoneError{Name: p.Name, Err: p.err, Tail: p.tail(10)}
	default:
		return errors.New("not yet")
	}
}

func (p *Process) tail(lines int) string {
	all := bytes.Split(bytes.TrimRight([]byte(p.Log()), "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// signalGroup signals the process and its children.
func (p *Process) signalGroup(sig syscall.Signal) error { return syscall.Kill(-p.PID(), sig) }

// GoneError tells that a process ended on which one waited.
type GoneError struct {
	Name string // of the process
	Err  error  // as exec.Cmd.Wait gave it; nil for exit status 0
	Tail string // the last lines of its log
}

// Error tells all of it.
func (e *GoneError) Error() string {
	end := "exit status 0"
	if e.Err != nil {
		end = e.Err.Error()
	}
	return fmt.Sprintf("%s is gone (%s); its log ends:\n%s", e.Name, end, e.Tail)
}

// Unwrap gives the *exec.ExitError.
func (e *GoneError) Unwrap() error { return e.Err }

// unique is the name, with a number if there is a process of that name already.
func (e *Env) unique(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	count := 1
	for _, p := range e.processes {
		if base, _, _ := strings.Cut(p.Name, "."); base == name {
			count++
		}
	}
	if count == 1 {
		return name
	}
	return fmt.Sprintf("%s.%d", name, count)
}

// environ is [Environ] with the marker.
func environ(dir string) []string { return append(Environ(), marker+"="+dir) }

// Environ is our environment without what would steer the neighbours, or serai.
func Environ() []string {
	foreign := []string{"CONSUL_", "NOMAD_", "VAULT_", "ENVOY_", "AWS_", "SERAI_", "GOMAXPROCS=", "GOMEMLIMIT="}
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(foreign, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}

// bounded is ctx with a bound for what must not take longer, told as the cause.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("gave up after %v", limit))
}
