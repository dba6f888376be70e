package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// TestListenerCountsAsEnvoy: a listener counts connections that have found a chain, and tells of the others why not.
func TestListenerCountsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	twins := staticTwins(t, env, 1, func(ports []int) (clusters, listeners []json.RawMessage) {
		echo := accepting(t, giveBack)
		// Plain text has a chain, and TLS has none.
		text := strings.Replace(string(tcpListener("counted", ports[0], "echo", "")), `"filters":[`, `"filterChainMatch":{"transportProtocol":"raw_buffer"},"filters":[`, 1)
		text = strings.TrimSuffix(text, "}") + `,"statPrefix":"counted","listenerFilters":[{"name":"t","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]}`
		return []json.RawMessage{clusterOf("echo", "", endpointAt(echo, ""))}, []json.RawMessage{json.RawMessage(text)}
	})
	counted := func(kind string) map[string]string {
		all := map[string]string{}
		for _, name := range []string{
			"downstream_cx_total", "downstream_cx_active", "downstream_cx_destroy", "no_filter_chain_match", "downstream_listener_filter_remote_close",
			"downstream_pre_cx_active", "downstream_cx_overflow", "downstream_listener_filter_error",
		} {
			all[name] = wholeStat(t, twins[kind].admin, "listener.counted."+name)
		}
		return all
	}
	for kind, twin := range twins {
		until := func(name, want string) {
			t.Helper()
			eventually(t, kind+": "+name, func(context.Context) error {
				if got := counted(kind)[name]; got != want {
					return fmt.Errorf("it is %s, not %s", got, want)
				}
				return nil
			})
		}
		drop(dialMirror(t, local(twin.ports[0])).conn)
		until("downstream_listener_filter_remote_close", "2") // with the look at whether it is there
		secure := dialMirror(t, local(twin.ports[0]))
		_, err := io.WriteString(secure.conn, "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03"+strings.Repeat("r", 32)+"\x00\x00\x02\x13\x01\x01\x00")
		must(t, err)
		until("no_filter_chain_match", "1")
		ended, lives := dialMirror(t, local(twin.ports[0])), dialMirror(t, local(twin.ports[0]))
		must(t, ended.ping("hello"))
		must(t, lives.ping("hello"))
		drop(ended.conn)
		until("downstream_cx_destroy", "1")
	}
	if diff := gocmp.Diff(counted("envoy"), counted("serai")); diff != "" {
		t.Errorf("-Envoy +ours:\n%s", diff)
	}
}
