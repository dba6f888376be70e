package listen_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
)

// inNamespace runs f on a thread in a network namespace of its own, which ends with
// it, after commands that set it up. Where that is not possible the test is skipped.
func inNamespace(t *testing.T, setup string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("SKIPPED %s: network namespaces need root", t.Name())
	}
	for _, tool := range []string{"ip", "iptables", "ip6tables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED %s: %v", t.Name(), err)
		}
	}
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("namespace: %v", err)
			return
		}
		if out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "set -e\nip link set lo up\n"+setup).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		f()
	})
}

// onThread runs f on a thread that ends with it. It is never the first one, whose
// namespaces are those that others take for the whole process's.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that it ends with the goroutine
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		onThread(f)
	}()
	<-done
}

// The address before a redirect is known, of IPv4 and IPv6, and chooses the chain or
// the listener. A connection that was not redirected has no other address.
func TestOriginalDst(t *testing.T) {
	t.Parallel()
	const port = 15001
	rule := func(tables, address string) string {
		return fmt.Sprintf("%s -t nat -A OUTPUT -p tcp -d %s --dport 80 -j REDIRECT --to-port %d\n", tables, address, port)
	}
	setup := "ip addr add 240.0.0.1/32 dev lo\nip -6 addr add 2001:db8::1/128 dev lo\n" +
		rule("iptables", "240.0.0.1") + rule("ip6tables", "2001:db8::1")
	inNamespace(t, setup, func() {
		virtual, direct, behind := &echo{}, &echo{}, &echo{}
		chains := table(t, chain(direct),
			listen.Entry{Match: mesh.ChainMatch{DestinationPort: 80, Prefixes: prefixes("240.0.0.0/4", "2001:db8::/32")}, Chain: chain(virtual)})
		at := func(address string) mesh.Address { return mesh.Address{AddrPort: netip.MustParseAddrPort(address)} }
		var specs []*listen.Spec
		for _, address := range []string{"127.0.0.1:15001", "[::1]:15001"} {
			one := specAt(at(address))
			one.Inspect.OriginalDst, one.Chains = true, chains
			specs = append(specs, one)
		}
		s := newSet(t, listen.Config{Strict: true}, specs...)
		for _, address := range []string{"240.0.0.1:80", "[2001:db8::1]:80"} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Errorf("%s: %v", address, err)
				return
			}
			if err := talk(conn); err != nil {
				t.Errorf("%s: %v", address, err)
			}
			conn.Close()
			if _, peer := virtual.seen(); peer == nil || peer.Local.String() != address || !peer.Restored {
				t.Errorf("%s: %+v", address, peer)
			}
		}
		for _, address := range []string{"127.0.0.1:15001", "[::1]:15001"} {
			conn, err := net.Dial("tcp", address)
			if err != nil || talk(conn) != nil {
				t.Errorf("%s: %v", address, err)
				return
			}
			conn.Close()
			if _, peer := direct.seen(); peer == nil || peer.Local.String() != address || peer.Restored {
				t.Errorf("%s: %+v", address, peer)
			}
		}
		if virtual.served.Load() != 2 || direct.served.Load() != 2 {
			t.Errorf("served %d and %d", virtual.served.Load(), direct.served.Load())
		}

		// use_original_dst: the listener of that address has it, which has no socket.
		for _, one := range specs {
			one.HandOff = true
		}
		unbound := specAt(at("240.0.0.1:80"), chain(behind))
		unbound.Unbound = true
		every := specAt(at("[::]:80"), chain(behind))
		every.Unbound = true
		commit(t, s, append(specs, unbound, every)...)
		for _, address := range []string{"240.0.0.1:80", "[2001:db8::1]:80"} {
			conn, err := net.Dial("tcp", address)
			if err != nil || talk(conn) != nil {
				t.Errorf("%s: %v", address, err)
				return
			}
			conn.Close()
		}
		if behind.served.Load() != 2 {
			t.Errorf("%d connections were handed off", behind.served.Load())
		}
		eventually(t, "all have left", func() bool {
			for _, l := range s.Stats() {
				if l.Active != 0 || l.Pending != 0 {
					return false
				}
			}
			return true
		})
	})
}
