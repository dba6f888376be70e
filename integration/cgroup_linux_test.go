package integration_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// cgrouped is a sidecar without a Consul that is started by a script of sh, which ends with `exec "$@"`.
type cgrouped struct {
	script string
	args   []string // of the script, from $0 on
	env    string
}

// run starts it, looks for what is wanted in what it has said when its admin interface is there ("" is no limit of
// memory), and ends it after then.
func (c *cgrouped) run(t *testing.T, want string, then func(admin string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	binary := cmp.Or(os.Getenv("SERAI_BINARY"), filepath.Join(binDir(t), "serai"))
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	must(t, err)
	defer out.Close()
	args := append([]string{"-c", c.script}, c.args...)
	cmd := exec.CommandContext(ctx, "sh", append(args, binary,
		"connect", "-l", "debug", "--config-yaml", `{"node":{"id":"a","cluster":"a"},"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}},
		"dynamic_resources":{"ads_config":{"api_type":"DELTA_GRPC","grpc_services":[{"envoy_grpc":{"cluster_name":"local_agent"}}]}},
		"static_resources":{"clusters":[{"name":"local_agent","type":"STATIC","load_assignment":{"cluster_name":"local_agent","endpoints":[{"lb_endpoints":[
		{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9}}}}]}]}}]}}`)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(harness.Environ(), c.env), out, out
	must(t, cmd.Start())
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
		cmd.Wait()                          //nolint:errcheck // how it ends is another test's
	}()
	said := ""
	const admin = `msg="admin interface" address=`
	for ctx.Err() == nil && !strings.Contains(said, admin) {
		<-time.After(20 * time.Millisecond)
		text, err := os.ReadFile(log)
		must(t, err)
		said = string(text)
	}
	if !strings.Contains(said, want) || want == "" && strings.Contains(said, "memory limit") {
		t.Errorf("%v, %s: no %q in\n%s", c.args, c.env, want, said)
	}
	if _, after, ok := strings.Cut(said, admin); ok && then != nil {
		address, _, _ := strings.Cut(after, "\n")
		then(address)
	}
}

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
	for _, row := range []struct{ env, want string }{
		{"NOTHING=", fmt.Sprintf(`msg="memory limit" bytes=%d`, limit*9/10)},
		{"GOMEMLIMIT=64MiB", `msg="memory limit" bytes=67108864`},
	} {
		c := &cgrouped{`echo $$ > "$0" && exec "$@"`, []string{filepath.Join(group, "cgroup.procs")}, row.env}
		c.run(t, row.want, nil)
	}
}

// TestCgroup2 shows the sidecar cgroups of version 2 that are files of ours, in a mount namespace of its own: memory is
// bounded by the smallest limit on the way up, and threads by the quota of the processor, but for two of them, which
// Go's runtime always takes.
func TestCgroup2(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", "mount --bind /dev/null /proc/$$/cgroup").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED %s: no mount namespace can be made here, or nothing mounted in it: %v: %s", t.Name(), err, out)
	}
	const mebi = 1 << 20
	limited := func(bytes int) string { return fmt.Sprintf(`msg="memory limit" bytes=%d`, bytes*9/10) }
	for _, row := range []struct {
		name, env  string
		group      string            // as /proc/self/cgroup has it
		root       string            // that of the mount
		files      map[string]string // below the mount
		want       string
		processors int // that are allowed at least; 0 for all
	}{
		{
			"of the task", "NOTHING=", "/nomad.slice/task.scope", "/",
			map[string]string{
				"nomad.slice/memory.max": "max", "nomad.slice/task.scope/memory.max": "134217728",
				"nomad.slice/task.scope/cpu.max": "250000 100000", "nomad.slice/cpu.max": "max 100000",
			},
			limited(128 * mebi), 3,
		},
		{
			"of what is above it", "NOTHING=", "/nomad.slice/task.scope", "/",
			map[string]string{
				"nomad.slice/memory.max": "100663296", "nomad.slice/task.scope/memory.max": "134217728",
				"nomad.slice/task.scope/cpu.max": "max 100000", "nomad.slice/cpu.max": "50000 100000",
			},
			limited(96 * mebi), 2,
		},
		{
			"a container's own namespace", "NOTHING=", "/", "/",
			map[string]string{"memory.max": "134217728", "cpu.max": "200000 100000"},
			limited(128 * mebi), 2,
		},
		{
			"a container without one", "NOTHING=", "/docker/abc", "/docker/abc",
			map[string]string{"memory.max": "134217728", "cpu.max": "200000 100000"},
			limited(128 * mebi), 2,
		},
		{
			"none", "NOTHING=", "/docker/abc", "/docker/abc",
			map[string]string{"memory.max": "max", "cpu.max": "max 100000"},
			"", 0,
		},
		{
			"none that can be seen, and Nomad's word", "NOMAD_MEMORY_LIMIT=64", "/nomad.slice/task.scope", "/elsewhere",
			map[string]string{"memory.max": "134217728"},
			limited(64 * mebi), 0,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put := func(name, text string) string {
				path := filepath.Join(dir, name)
				must(t, os.MkdirAll(filepath.Dir(path), 0o755))
				must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
				return path
			}
			for name, text := range row.files {
				put(filepath.Join("tree", name), text)
			}
			mounts := put("mountinfo", fmt.Sprintf("24 1 0:22 / / rw - overlay overlay rw\n30 24 0:26 %s %s rw,nosuid - cgroup2 cgroup2 rw", row.root, filepath.Join(dir, "tree")))
			c := &cgrouped{
				`mount --bind "$0" /proc/$$/mountinfo && mount --bind "$1" /proc/$$/cgroup && shift && exec "$@"`,
				[]string{mounts, put("cgroup", "0::"+row.group)},
				row.env,
			}
			c.script = "exec unshare -m sh -c '" + c.script + "' \"$0\" \"$@\""
			c.run(t, row.want, func(admin string) {
				want := runtime.NumCPU()
				if row.processors > 0 {
					want = min(want, row.processors)
				}
				if got := get(t, "http://"+admin+"/stats?filter=server.concurrency").body; !strings.Contains(got, fmt.Sprintf("server.concurrency: %d\n", want)) {
					t.Errorf("%d processors should be used: %s", want, got)
				}
			})
		})
	}
}
