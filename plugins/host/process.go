package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

const (
	// maxPrinted is what is kept of a process's standard output, in bytes: the
	// line of the handshake, or what shows that this is no plugin.
	maxPrinted = 4 << 10
	// lastWords is how long the pipes of an ended process are read on, if
	// something that escaped its group holds them open.
	lastWords = 500 * time.Millisecond
)

// process is a plugin's process, as go-plugin wants one.
type process struct {
	// set by newProcess
	log    *pluginLog
	exited chan struct{} // closed by own: ended and reaped, and its group is gone
	// told is closed when go-plugin may learn of the end: it leaks a connection
	// if the process ends while it connects.
	told chan struct{}

	// set by prepare
	cmd *exec.Cmd
	dir string // of its unix socket

	// set by Start
	stdin, stdout, stderr *os.File       // our ends
	reading               sync.WaitGroup // of stderr

	// set by own, to be read after exited
	end string

	hung sync.Once // guards the closing of stdin

	mu      sync.Mutex // guards:
	pid     int        // 0 before the start
	killed  bool       // kill was called
	reaped  bool       // pid may be another's
	printed []byte     // the begin of stdout
}

var _ runner.Runner = (*process)(nil)

func newProcess(log *pluginLog) *process {
	return &process{log: log, exited: make(chan struct{}), told: make(chan struct{})}
}

// prepare takes what go-plugin adds to the environment from the command that it
// has made, and the rest from c.
func (p *process) prepare(c *Config, made *exec.Cmd, dir string) {
	command := c.Command
	if full, err := filepath.Abs(command); err == nil {
		command = full // a relative path is relative to where we are, not to Dir
	}
	p.cmd = exec.Command(command, c.Args...) //nolint:noctx // ended by kill, with its group
	p.cmd.Dir = "/"
	p.cmd.Env = []string{}
	for name, value := range c.Env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.Env = append(p.cmd.Env, made.Env...)
	p.cmd.SysProcAttr = processAttributes()
	p.dir = dir
}

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	theirs, err := p.pipes()
	if err != nil {
		p.ended("it was not started")
		return err
	}
	started := make(chan error, 1)
	go p.own(started)
	err = <-started
	closeAll(theirs...) // the child has its own
	if err != nil {
		p.closePipes()
		return err
	}
	p.reading.Go(func() { p.log.read(p.stderr) })
	return nil
}

func (p *process) pipes() (theirs []*os.File, err error) {
	stdinR, stdinW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for a plugin: %w", err)
	}
	stdoutR, stdoutW, err := os.Pipe()
	if err != nil {
		closeAll(stdinR, stdinW)
		return nil, fmt.Errorf("pipe for a plugin: %w", err)
	}
	stderrR, stderrW, err := os.Pipe()
	if err != nil {
		closeAll(stdinR, stdinW, stdoutR, stdoutW)
		return nil, fmt.Errorf("pipe for a plugin: %w", err)
	}
	p.stdin, p.stdout, p.stderr = stdinW, stdoutR, stderrR
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdinR, stdoutW, stderrW
	return []*os.File{stdinR, stdoutW, stderrW}, nil
}

// own starts the process, sees it end and reaps it, all on one thread: the
// kernel ties the parent death signal to the thread that forks.
func (p *process) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	if err != nil {
		p.ended("it was not started")
		started <- err
		return
	}
	p.mu.Lock()
	p.pid = p.cmd.Process.Pid
	if p.killed {
		p.killGroup()
	}
	p.mu.Unlock()
	started <- nil
	p.reap()
	deadline := time.Now().Add(lastWords)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.SetReadDeadline(deadline)
	p.ended("it ended with " + p.cmd.ProcessState.String())
}

func (p *process) ended(how string) {
	p.end = how
	close(p.exited)
}

// kill ends the process and its group at once. It may be called at any time.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.pid != 0 && !p.reaped {
		p.killGroup()
	}
}

// killGroup needs a pid that is not reaped.
func (p *process) killGroup() {
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // gone already is as good
}

// isStarted tells whether there is, or was, a process.
func (p *process) isStarted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid != 0
}

// hangUp asks the process to end.
func (p *process) hangUp() {
	p.hung.Do(func() {
		if p.stdin != nil {
			_ = p.stdin.Close()
		}
	})
}

func (p *process) closePipes() {
	p.hangUp()
	closeAll(p.stdout, p.stderr)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // pipes have nothing to lose
		}
	}
}

// Wait implements runner.Runner.
func (p *process) Wait(context.Context) error {
	<-p.exited
	<-p.told
	return nil
}

// Kill implements runner.Runner.
func (p *process) Kill(context.Context) error {
	p.kill()
	return nil
}

// Stdout implements runner.Runner. Of what is read the begin is kept.
func (p *process) Stdout() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(p.stdout, writer(p.print)), p.stdout}
}

type writer func([]byte) (int, error)

// Write implements io.Writer.
func (w writer) Write(b []byte) (int, error) { return w(b) }

func (p *process) print(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printed = append(p.printed, b[:min(len(b), maxPrinted-len(p.printed))]...)
	return len(b), nil
}

// firstLine is the first line on standard output so far, "" if there is none.
func (p *process) firstLine() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	line, _, _ := bytes.Cut(p.printed, []byte("\n"))
	return string(bytes.TrimSpace(line))
}

// Stderr implements runner.Runner. It has nothing for go-plugin: we read it
// ourselves (see package comment). Its end comes with that of the process, since
// go-plugin does not expect it while it starts.
func (p *process) Stderr() io.ReadCloser {
	return io.NopCloser(reader(func([]byte) (int, error) {
		<-p.exited
		return 0, io.EOF
	}))
}

type reader func([]byte) (int, error)

// Read implements io.Reader.
func (r reader) Read(b []byte) (int, error) { return r(b) }

// Name implements runner.Runner.
func (p *process) Name() string { return p.cmd.Path }

// ID implements runner.Runner.
func (p *process) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strconv.Itoa(p.pid)
}

// Diagnose implements runner.Runner; we say ourselves what is wrong.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
