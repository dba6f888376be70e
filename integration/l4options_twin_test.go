package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// wholeStat is what an admin interface counts under a whole name; "" if it is not there.
func wholeStat(t *testing.T, admin int, name string) string {
	t.Helper()
	for line := range strings.Lines(get(t, "http://"+local(admin)+"/stats").body) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), name+": "); ok {
			return rest
		}
	}
	return ""
}

// networkRBAC is an RBAC filter of the network in front of tcp_proxy in the text of a listener.
func networkRBAC(listener json.RawMessage, config string) json.RawMessage {
	return json.RawMessage(strings.Replace(string(listener), `"filters":[`, `"filters":[{"name":"rbac","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",`+config+`}},`, 1))
}

// TestL4OptionsAsEnvoy waits between attempts to connect, keeps who is denied for a while, and counts what would be.
func TestL4OptionsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	apps := map[int]int{} // of the backed-off cluster, by the first port
	twins := staticTwins(t, env, 3, func(ports []int) (clusters, listeners []json.RawMessage) {
		port, err := env.Port()
		must(t, err)
		apps[ports[0]] = port
		echo := accepting(t, giveBack)
		clusters = append(clusters, clusterOf("later", "", endpointAt(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, "")), clusterOf("echo", "", endpointAt(echo, "")))
		const all, deny = `{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}`, `{"action":"DENY","policies":{"p":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}`
		return clusters, []json.RawMessage{
			tcpListener("later", ports[0], "later", `"maxConnectAttempts":16,"backoffOptions":{"baseInterval":"1s","maxInterval":"1s"},"maxDownstreamConnectionDuration":"600s","maxDownstreamConnectionDurationJitterPercentage":{"value":50}`),
			networkRBAC(tcpListener("delayed", ports[1], "echo", ""), `"statPrefix":"delayed","delayDeny":"5s","rules":`+deny),
			networkRBAC(tcpListener("shadow", ports[2], "echo", ""), `"statPrefix":"shadow","enforcementType":"CONTINUOUS","shadowRulesStatPrefix":"dark_","rules":`+all+`,"shadowRules":`+deny),
		}
	})
	for kind, twin := range twins {
		// A look at whether the listener is there may have been counted, too.
		grows := func(name, before string) {
			t.Helper()
			eventually(t, name+" of "+kind, func(context.Context) error {
				if got := wholeStat(t, twin.admin, name); got == before || got == "" {
					return fmt.Errorf("it is %q", got)
				}
				return nil
			})
		}
		// Without a pause all attempts would be over long before somebody listens.
		m := dialMirror(t, local(twin.ports[0]))
		_, err := io.WriteString(m.conn, "hello\n")
		must(t, err)
		eventually(t, "an attempt of "+kind, func(context.Context) error {
			if got := wholeStat(t, twin.admin, "cluster.later.upstream_cx_connect_fail"); got == "0" || got == "" {
				return errNotYet
			}
			return nil
		})
		serveEach(t, listenAt(t, apps[twin.ports[0]]), giveBack)
		must(t, m.conn.SetDeadline(time.Now().Add(patience)))
		if line, err := m.reader.ReadString('\n'); line != "hello\n" {
			t.Errorf("%s: %q, %v", kind, line, err)
		}

		before := wholeStat(t, twin.admin, "delayed.rbac.denied")
		denied := dialMirror(t, local(twin.ports[1]))
		_, err = io.WriteString(denied.conn, "x")
		must(t, err)
		grows("delayed.rbac.denied", before)
		must(t, denied.conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, err := denied.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s closes at once who is denied: %v", kind, err)
		}
		must(t, denied.conn.SetReadDeadline(time.Now().Add(patience)))
		if _, err := denied.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s does not close who is denied: %v", kind, err)
		}

		shadow := dialMirror(t, local(twin.ports[2]))
		must(t, shadow.ping("x"))
		for _, name := range []string{"allowed", "dark_.shadow_denied"} {
			grows("shadow.rbac."+name, "0")
		}
		for _, name := range []string{"denied", "dark_.shadow_allowed"} {
			if got := wholeStat(t, twin.admin, "shadow.rbac."+name); got != "0" {
				t.Errorf("%s: %s is %q", kind, name, got)
			}
		}
	}
}
