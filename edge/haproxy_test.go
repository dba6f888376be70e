package edge_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serai-net/serai/edge"
)

// haproxy runs the real thing with some sections.
func haproxy(t *testing.T, sections string) {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		if path = "/usr/sbin/haproxy"; !exists(path) {
			t.Skip("SKIPPED: there is no haproxy")
		}
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := "defaults\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n" + sections
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), path, "-db", "-q", "-f", file)
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill() //nolint:errcheck // it may have ended
		process.Wait()         //nolint:errcheck // it was killed
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func accepting(t *testing.T, addresses ...netip.AddrPort) {
	t.Helper()
	for _, address := range addresses {
		eventually(t, address.String()+" accepts", func() bool {
			conn, err := net.Dial("tcp", address.String())
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
}

// HAProxy in front of us tells who the client is, and so do we to an HAProxy
// behind us.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			front, ours, behind := freeAddress(t), freeAddress(t), freeAddress(t)
			send := map[int]string{1: "send-proxy", 2: "send-proxy-v2"}[version]
			haproxy(t, fmt.Sprintf(`
listen front
  mode tcp
  bind %s
  source 127.0.0.1
  server ours %s %s
frontend behind
  mode http
  bind %s accept-proxy
  http-request return status 200 content-type text/plain lf-string "%%[src] %%[hdr(x-forwarded-for)]"
`, front, ours, send, behind))
			accepting(t, front, behind)
			a := edge.API{Name: "a", Routes: []edge.Route{{
				Name: "all", Upstream: &edge.Upstream{Addresses: []string{behind.String()}, ProxyProtocol: fmt.Sprintf("v%d", version)},
			}}}
			start(t, edge.Config{
				Listeners: []edge.Listener{{Name: "public", Address: ours, ProxyProtocol: &edge.ProxyProtocol{Trusted: local}}},
				APIs:      []edge.API{a},
			})
			// The client calls from another loopback address than HAProxy does.
			for range 3 {
				out, err := curl(t, "--interface", "127.0.0.9", "http://"+front.String())
				if err != nil || strings.TrimSpace(out) != "127.0.0.9 127.0.0.9" {
					t.Errorf("%q, %v", out, err)
				}
			}
		})
	}
}
