package harness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// guardianScript reads what to look after, one verb a line. It ends when no one holds the other end of its input any
// more: in Close, or because this process died, however it died. Then it sweeps.
const guardianScript = `
trap '' INT TERM HUP QUIT
groups=' ' cgroups=
while read -r verb arg; do
  case $verb in
    add) groups="$groups$arg " ;;
    del) groups="${groups%% $arg *} ${groups#* $arg }" ;;
    cgroup) cgroups="$cgroups $arg" ;;
  esac
done
for g in $groups; do kill -s KILL -- "-$g" 2>/dev/null; done
for c in $cgroups; do
  for try in 1 2 3 4 5 6 7 8 9 10; do
    left=$(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$c" 2>/dev/null)
    [ -n "$left" ] || break
    find $left -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.2
  done
done
exit 0
`

// guardian outlives this process for as long as it takes to sweep after it.
type guardian struct {
	// set by newGuardian
	cmd *exec.Cmd

	// mu guards:
	mu   sync.Mutex
	pipe io.WriteCloser
}

func newGuardian(environ []string) (*guardian, error) {
	r, w, err := os.Pipe() // close-on-exec: no child of ours holds the writing end
	if err != nil {
		return nil, fmt.Errorf("pipe to guardian: %w", err)
	}
	defer r.Close()
	//nolint:noctx // it must not end with a context but with its input
	cmd := exec.Command("/bin/sh", "-c", guardianScript, "serai-guardian")
	cmd.Stdin = r
	cmd.Dir = "/"
	cmd.Env = environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal to our group or terminal must not reach it
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	return &guardian{cmd: cmd, pipe: w}, nil
}

// add makes it kill the process group pid if we die.
func (g *guardian) add(pid int) { g.tell("add", pid) }

// forget undoes add.
func (g *guardian) forget(pid int) { g.tell("del", pid) }

// cgroup makes it remove the cgroups of that name, below any controller, once the processes are gone.
func (g *guardian) cgroup(name string) { g.tell("cgroup", name) }

func (g *guardian) tell(verb string, arg any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe != nil {
		// A guardian that is gone cannot be helped: the parent death signal is still there.
		_, _ = fmt.Fprintln(g.pipe, verb, arg)
	}
}

// close makes it sweep what is left, and waits for that.
func (g *guardian) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe == nil {
		return nil
	}
	err := g.pipe.Close()
	g.pipe = nil
	timer := time.AfterFunc(10*time.Second, func() { _ = g.cmd.Process.Kill() })
	defer timer.Stop()
	if waited := g.cmd.Wait(); waited != nil {
		return fmt.Errorf("guardian: %w", waited)
	}
	return err
}
