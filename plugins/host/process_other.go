//go:build !linux

package host

import "syscall"

// processAttributes put the process into a group of its own. That it ends with
// us is up to package plugins, which sees the end of its standard input.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// reap waits for the end of the process and kills what is left of its group.
func (p *process) reap() {
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killGroup()
	p.reaped = true
}
