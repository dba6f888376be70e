package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// namespaceAddr is the same in all namespaces: they do not see each other.
const namespaceAddr = "10.99.0.2"

// initScript is the init of a namespace. Its mounts hide what Nomad and CNI would leave in the real folders; /mnt is
// the folder mnt of the Env, by a path that is short enough for sockets. At the end it does what an init is for: it waits, and buries the dead whose parents are gone.
const initScript = `set -e
mount -t proc proc /proc
mkdir -p /run/netns /var/lib/cni
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /var/lib/cni
mkdir -p "$` + marker + `/mnt"
mount --bind "$` + marker + `/mnt" /mnt
ip link set lo up
ip link add eth0 type veth peer name eth0-peer
ip addr add ` + namespaceAddr + `/24 dev eth0
ip link set eth0-peer up
ip link set eth0 up
ip route add default via 10.99.0.1 dev eth0
echo "namespace is ready"
set +e
while :; do sleep 3600 & wait $!; done
`

// Namespace makes a namespace. Where that is not possible the test is skipped, loudly.
func (e *Env) Namespace(ctx context.Context) (*Namespace, error) {
	if os.Geteuid() != 0 {
		return nil, e.skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("make namespace: %w: install iproute2 and mount", err)
		}
	}
	init, err := e.start(Command{Name: e.unique("namespace"), Path: "/bin/sh", Args: []string{"-c", initScript}}, &syscall.SysProcAttr{
		// Unshared, not cloned, are the mounts: os/exec then makes them private.
		Cloneflags:   unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Unshareflags: unix.CLONE_NEWNS,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx, 10*time.Second)
	defer cancel()
	if err := init.WaitLog(ctx, "namespace is ready"); err != nil {
		return nil, err
	}
	n := &Namespace{Addr: netip.MustParseAddr(namespaceAddr), init: init, handles: map[string]*os.File{}}
	e.OnClose(func(context.Context) error {
		err := init.Kill() // init heeds no SIGTERM
		for _, handle := range n.handles {
			err = errors.Join(err, handle.Close())
		}
		return err
	})
	for _, kind := range []string{"net", "mnt", "pid"} {
		handle, err := os.Open(filepath.Join("/proc", fmt.Sprint(init.PID()), "ns", kind))
		if err != nil {
			return nil, fmt.Errorf("open namespace: %w", err)
		}
		n.handles[kind] = handle
	}
	return n, nil
}

// dial opens the socket on a thread that is in the network namespace. The thread ends with the call, the socket stays
// where it was made.
func (n *Namespace) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial in namespace: %w", err)
	}
	onThread(func() {
		if err = setns(n.handles["net"], unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter net namespace: %w", err)
			return
		}
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, addr)
	})
	return conn, err
}

// listen is to Listen what dial is to DialContext.
func (n *Namespace) listen(ctx context.Context, network, addr string) (l net.Listener, err error) {
	onThread(func() {
		if err = setns(n.handles["net"], unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter net namespace: %w", err)
			return
		}
		var config net.ListenConfig
		l, err = config.Listen(ctx, network, addr)
	})
	return l, err
}
