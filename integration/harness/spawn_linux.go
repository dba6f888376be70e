package harness

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// onThread runs f on an operating system thread of its own, which ends with f. It is never the process's first thread:
// that one cannot end, and its namespaces are those that others take for the whole process's.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		onThread(f)
	}()
	<-done
}

// spawn starts the command on this thread, which must live as long as the process (see onThread).
func spawn(cmd *exec.Cmd, ns *Namespace) error {
	cmd.SysProcAttr.Setpgid = true
	if ns != nil {
		// No parent death signal: a parent in another PID namespace has the number 0, which os/exec takes for dead.
		// The namespace's init has one, and takes all others with it.
		if err := ns.enter(); err != nil {
			return err
		}
		return cmd.Start()
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return cmd.Start()
}

// enter moves this thread into the namespaces; what it starts is in the PID namespace, too.
func (n *Namespace) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // or else the mounts cannot be changed
		return fmt.Errorf("unshare: %w", err)
	}
	for _, kind := range []struct {
		name string
		flag int
	}{{"mnt", unix.CLONE_NEWNS}, {"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}} {
		if err := setns(n.handles[kind.name], kind.flag); err != nil {
			return fmt.Errorf("enter %s namespace: %w", kind.name, err)
		}
	}
	return nil
}

func setns(handle *os.File, flag int) error {
	if handle == nil {
		return os.ErrClosed
	}
	return unix.Setns(int(handle.Fd()), flag)
}
