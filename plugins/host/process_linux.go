package host

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes put the process into a group of its own, and end it when we
// are killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// reap waits for the end of the process, kills what is left of its group, and
// reaps it: until then the number is the group's and nobody else's.
func (p *process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killGroup()
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.reaped = true
}
