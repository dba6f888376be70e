package integration_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCgroup starts the sidecar in a cgroup that allows it 256 MiB: its heap aims at 0.9
// of that, unless GOMEMLIMIT says otherwise.
func TestCgroup(t *testing.T) {
	const limit = 256 << 20
	group := filepath.Join("/sys/fs/cgroup/memory", "serai-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("SKIPPED %s: no cgroup (v1) can be made here: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		for range 200 { // what was in it is gone a moment after it has ended
			if os.Remove(group) == nil {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Errorf("%s cannot be removed", group)
	})
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strconv.Itoa(limit)), 0o600); err != nil {
		t.Skipf("SKIPPED %s: no limit can be set here: %v", t.Name(), err)
	}
	binary := cmp.Or(os.Getenv("SERAI_BINARY"), filepath.Join("..", "bin", "serai"))
	for _, row := range []struct{ env, want string }{
		{"NOTHING=", fmt.Sprintf(`msg="memory limit" bytes=%d`, limit*9/10)},
		{"GOMEMLIMIT=64MiB", `msg="memory limit" bytes=67108864`},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		log := filepath.Join(t.TempDir(), "log")
		out, err := os.Create(log)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(group, "cgroup.procs"), binary,
			"connect", "-l", "debug", "--config-yaml", `{"node":{"id":"a","cluster":"a"},"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}},
			"dynamic_resources":{"ads_config":{"api_type":"DELTA_GRPC","grpc_services":[{"envoy_grpc":{"cluster_name":"local_agent"}}]}},
			"static_resources":{"clusters":[{"name":"local_agent","type":"STATIC","load_assignment":{"cluster_name":"local_agent","endpoints":[{"lb_endpoints":[
			{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9}}}}]}]}}]}}`)
		cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), row.env), out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := ""
		for ctx.Err() == nil && !strings.Contains(said, "memory limit") {
			<-time.After(20 * time.Millisecond)
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			said = string(text)
		}
		if !strings.Contains(said, row.want) {
			t.Errorf("%s: no %q in\n%s", row.env, row.want, said)
		}
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
		cmd.Wait()                          //nolint:errcheck // how it ends is another test's
		cancel()
		out.Close()
	}
}
