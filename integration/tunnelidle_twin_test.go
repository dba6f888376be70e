package integration_test

import (
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

// TestTunnelIdleAsEnvoy ends a websocket on which nothing moves for as long as the connection manager, or the route, lets an
// exchange pause.
func TestTunnelIdleAsEnvoy(t *testing.T) {
	t.Parallel()
	twins := staticTwins(t, harness.ForTest(t), 2, func(ports []int) (clusters, listeners []json.RawMessage) {
		hcm := func(more, route string) []json.RawMessage {
			return []json.RawMessage{fmt.Appendf(nil, `{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"h",%s"upgrade_configs":[{"upgrade_type":"websocket"}],
				"http_filters":[{"name":"router","typed_config":{"@type":%q}}],"route_config":{"name":"rc","virtual_hosts":[{"name":"v","domains":["*"],
				"routes":[{"match":{"prefix":"/"},"route":{"cluster":"echo"%s}}]}]}}}`, hcmType, more, routerAny, route)}
		}
		return []json.RawMessage{clusterAt("echo", accepting(t, upgrader).String())}, []json.RawMessage{
			boundListener("chain", ports[0], nil, hcm(`"stream_idle_timeout":"3s",`, ""), "{}"),
			boundListener("route", ports[1], nil, hcm("", `,"idle_timeout":"3s"`), "{}"),
		}
	})
	for kind, twin := range twins {
		for i, port := range twin.ports {
			if err := untilIdle(t, port); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, listener %d: the websocket goes on", kind, i)
			}
		}
	}
}

// untilIdle opens a websocket, uses it once, and tells how it ends then.
func untilIdle(t *testing.T, port int) error {
	t.Helper()
	conn, err := net.Dial("tcp", local(port))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
	must(t, err)
	heard, b := "", make([]byte, 4096)
	for !strings.HasSuffix(heard, "hello") {
		n, err := conn.Read(b)
		must(t, err)
		if heard += string(b[:n]); strings.HasSuffix(heard, "\r\n\r\n") {
			_, err = io.WriteString(conn, "hello")
			must(t, err)
		}
	}
	_, err = conn.Read(b)
	return err
}
