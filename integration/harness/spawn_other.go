//go:build unix && !linux

package harness

import (
	"os/exec"
)

// onThread runs f. Elsewhere than on Linux there is no parent death signal; the guardian is all there is.
func onThread(f func()) { f() }

func spawn(cmd *exec.Cmd, _ *Namespace) error {
	cmd.SysProcAttr.Setpgid = true
	return cmd.Start()
}
