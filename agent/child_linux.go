package agent

import "syscall"

// childAttributes put the child into a group of its own, so that Ctrl-C reaches
// it through us, and end it when we are killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
