package integration_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// foreign is how the clients of others come to the app of TestClients.
type foreign struct {
	name   string
	url    string
	folder string // for their files
	upload string // a file of uploadSize bytes
	hash   string // of it
}

const uploadSize = 64 << 10

// TestClients asks with h2load, nghttp and curl: the edge in clear (its upstream takes HTTP/1) and over TLS (its upstream
// takes HTTP/2), and a sidecar's listener for an upstream.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"h2load", "nghttp", "curl"} {
		if _, err := exec.LookPath(name); err != nil {
			harness.Skip(t, name+" is not here: "+err.Error())
		}
	}
	w := newWorld(t, map[string]string{"site": "http2", "web": "http2"})
	w.allow(t, "web", "site")
	site := w.run(t, "site-1", "site")
	web := w.run(t, "web-1", "web", "site")
	edge := bothWaysEdge(t, w.env, site.app.port)
	data := noise(t, uploadSize)
	upload := filepath.Join(w.env.Dir(), "upload")
	must(t, os.WriteFile(upload, data, 0o600))
	for _, f := range []*foreign{
		{name: "edge", url: "http://" + local(edge)},
		{name: "edge over TLS", url: "https://" + local(edge+1)},
		{name: "sidecars", url: "http://" + local(web.upstreams["site"])},
	} {
		f.folder, f.upload, f.hash = t.TempDir(), upload, sum(data)
		listening(t, f.url[strings.LastIndexByte(f.url, '/')+1:])
		if f.name == "sidecars" {
			w.waitOK(t, f.url+"/")
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			t.Run("h2load", func(t *testing.T) { testH2Load(t, f) })
			t.Run("nghttp", func(t *testing.T) { testNghttp(t, f) })
			t.Run("curl", func(t *testing.T) { testCurl(t, f) })
		})
	}
}

// bothWaysEdge starts an edge in front of a port of this machine: in clear at the port that it returns, to HTTP/1, and by
// TLS at the next one, to HTTP/2.
func bothWaysEdge(t *testing.T, env *harness.Env, port int) int {
	t.Helper()
	first, err := env.Ports(2)
	must(t, err)
	certificate(t, env.Dir())
	file := filepath.Join(env.Dir(), "clients.hcl")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `edge {
  listener "plain" { address = %q }
  listener "secure" {
    address = %q
    tls {
      certificate_file = "site.pem"
      key_file         = "site.key"
    }
  }
  api "plain" {
    listeners = ["plain"]
    route "all" {
      upstream { addresses = [%[3]q] }
    }
  }
  api "secure" {
    listeners = ["secure"]
    route "all" {
      upstream {
        addresses = [%[3]q]
        protocol  = "http2"
      }
    }
  }
}
`, local(first), local(first+1), local(port)), 0o600))
	_, err = env.Serai([]string{"edge", "-config", file})
	must(t, err)
	return first
}

// tool runs a client, and returns what it writes; it must exit with 0.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%.4000s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// testH2Load sends many requests at once. All must be answered with 2xx, and as many bytes must come as were asked.
func testH2Load(t *testing.T, f *foreign) {
	t.Helper()
	for _, c := range []struct {
		name     string
		path     string
		requests int
		size     int // of an answer's body
		args     []string
	}{
		{"small", "/x/a", 2000, len("site-1"), []string{"-c", "10", "-m", "10"}},
		{"many streams", "/x/a", 2000, len("site-1"), []string{"-c", "2", "-m", "250"}},
		{"many connections", "/x/a", 1000, len("site-1"), []string{"-c", "200", "-m", "2"}},
		{"large answers", "/file", 30, bodySize, []string{"-c", "3", "-m", "10"}},
		{"small windows", "/echo", 100, uploadSize, []string{"-c", "2", "-m", "50", "-w", "10", "-W", "16", "-d", f.upload}},
		{"small windows of connections", "/echo", 100, uploadSize, []string{"-c", "2", "-m", "50", "-w", "16", "-W", "16", "-d", f.upload}},
		{"uploads", "/echo", 300, uploadSize, []string{"-c", "4", "-m", "16", "-d", f.upload}},
		{"HTTP/1.1", "/x/a", 1000, len("site-1"), []string{"--h1", "-c", "10"}},
		{"HTTP/1.1, pipelined", "/x/a", 1000, len("site-1"), []string{"--h1", "-c", "4", "-m", "16"}},
		{"HTTP/1.1, uploads", "/echo", 200, uploadSize, []string{"--h1", "-c", "4", "-d", f.upload}},
		{"HTTP/1.1, large answers", "/file", 20, bodySize, []string{"--h1", "-c", "4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"-n", strconv.Itoa(c.requests), "-H", "x-trailer: none"}
			if slices.Contains(c.args, "-d") {
				args = append(args, "-H", "x-sha256: "+f.hash)
			}
			out := tool(t, "h2load", append(append(args, c.args...), f.url+c.path)...)
			want := []string{
				fmt.Sprintf("requests: %[1]d total, %[1]d started, %[1]d done, %[1]d succeeded, 0 failed, 0 errored, 0 timeout", c.requests),
				fmt.Sprintf("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx", c.requests),
				fmt.Sprintf("(%d) data\n", c.requests*c.size),
			}
			for _, line := range want {
				if !strings.Contains(out, line) {
					t.Errorf("%q is not in\n%s", line, out)
				}
			}
		})
	}
}

// testNghttp looks at frames: trailers of both sides, heads in CONTINUATION frames, padding.
func testNghttp(t *testing.T, f *foreign) {
	t.Helper()
	whole := sum([]byte(strings.Repeat(bodyBlock, bodySize/len(bodyBlock))))
	colours := regexp.MustCompile("\x1b\\[[0-9;]*m")
	upload := []string{"-n", "-d", f.upload, "-H", "x-sha256: " + f.hash}
	for _, c := range []struct {
		name string
		path string
		args []string
		want []string
	}{
		{"trailers of an answer", "/body/trailer", []string{"-n"}, []string{"recv (stream_id=13) :status: 200", "x-sha256: " + whole, "END_STREAM"}},
		{"trailers of a request", "/echo", append(upload, "--trailer", "X-Trailer: it came", "--no-content-length"), []string{"x-trailer: it came", "x-sha256: " + f.hash}},
		{"CONTINUATION", "/headers", []string{"--continuation"}, []string{":status: 200", `"Continuation-Test-6":["----`}},
		{"padding", "/echo", append(upload, "-b", "255"), []string{":status: 200", "x-sha256: " + f.hash, "PADDED"}},
		{"Expect", "/echo", append(upload, "--expect-continue"), []string{":status: 200", "x-sha256: " + f.hash}},
		{"several at once", "/echo", append(upload, "-m", "20"), []string{":status: 200", "x-sha256: " + f.hash}},
		{"no header table", "/headers", []string{"-c", "0", "-m", "5"}, []string{":status: 200"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := colours.ReplaceAllString(tool(t, "nghttp", append(append([]string{"-v", "-y"}, c.args...), f.url+c.path)...), "")
			for _, part := range c.want {
				if !strings.Contains(out, part) {
					t.Errorf("%q is not in\n%.6000s", part, out)
				}
			}
			if strings.Contains(out, "recv RST_STREAM") || strings.Contains(out, "Some requests were not processed") {
				t.Errorf("streams were reset:\n%.6000s", out)
			}
		})
	}
}

// testCurl does by each version of HTTP what scripts do with curl.
func testCurl(t *testing.T, f *foreign) {
	t.Helper()
	all := []byte(strings.Repeat(bodyBlock, bodySize/len(bodyBlock)))
	data, err := os.ReadFile(f.upload)
	must(t, err)
	secured := strings.HasPrefix(f.url, "https")
	for _, version := range []string{"--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"} {
		old := version == "--http1.0" || version == "--http1.1"
		for _, c := range []struct {
			name string
			skip bool
			path string
			args []string
			want []byte   // of the body
			told []string // with -v
		}{
			{name: "get", path: "/x/a", want: []byte("site-1")},
			{name: "head", path: "/file", args: []string{"-I"}, told: []string{"ontent-", fmt.Sprint(bodySize)}},
			{name: "range", path: "/file", args: []string{"-r", "100-1000099"}, want: all[100:1000100], told: []string{" 206"}},
			{name: "trailers", path: "/body/trailer", want: all},
			{name: "upload", path: "/echo", args: []string{"--data-binary", "@" + f.upload}, want: data},
			{name: "put", path: "/echo", args: []string{"-T", f.upload}, want: data},
			{name: "Expect", path: "/echo", args: []string{"--data-binary", "@" + f.upload, "-H", "Expect: 100-continue", "--expect100-timeout", "30"}, want: data, told: []string{" 100"}, skip: version == "--http1.0"},
			{name: "chunked", path: "/echo", args: []string{"--data-binary", "@" + f.upload, "-H", "Transfer-Encoding: chunked"}, want: data, skip: version == "--http1.0"},
			{name: "no body", path: "/echo", args: []string{"-X", "POST"}, want: []byte{}},
			{name: "status", path: "/nothing", told: []string{" 404"}},
		} {
			if c.skip {
				continue
			}
			t.Run(version[2:]+"/"+c.name, func(t *testing.T) {
				file := filepath.Join(f.folder, strings.ReplaceAll(t.Name(), "/", "-"))
				args := []string{"-svk", version, "-o", file, "-w", `\nversion=%{http_version} connects=%{num_connects}\n`, "-m", "50"}
				if slices.Contains(c.args, "@"+f.upload) || slices.Contains(c.args, "-T") {
					args = append(args, "-H", "X-Sha256: "+f.hash)
				}
				out := tool(t, "curl", append(append(args, c.args...), f.url+c.path)...)
				for _, part := range append(c.told, "connects=1") {
					if !strings.Contains(out, part) {
						t.Errorf("%q is not in\n%.4000s", part, out)
					}
				}
				// In clear --http2 offers an upgrade, which nobody must take.
				h2 := !old && (secured || version != "--http2")
				if got := strings.Contains(out, "version=2 "); got != h2 {
					t.Errorf("HTTP/2 %v, want %v\n%.4000s", got, h2, out)
				}
				if got, err := os.ReadFile(file); c.want != nil && (err != nil && len(c.want) > 0 || !bytes.Equal(got, c.want)) {
					t.Errorf("%v: %d bytes came, not the %d that were wanted\n%.4000s", err, len(got), len(c.want), out)
				}
			})
		}
		if !secured && version == "--http2-prior-knowledge" {
			continue // curl 7.88 fails at the second request, whoever serves
		}
		t.Run(version[2:]+"/again", func(t *testing.T) { testCurlAgain(t, f, version) })
	}
}

// testCurlAgain asks several times by one process, which must need one connection.
func testCurlAgain(t *testing.T, f *foreign, version string) {
	t.Helper()
	const times = 5
	args := []string{"-sk", version, "-w", "%{num_connects}"}
	for n := range times {
		args = append(args, "-o", filepath.Join(f.folder, fmt.Sprint("again-", n)), f.url+"/x/a")
	}
	want := cmp.Or(map[string]string{"--http1.0": "11111"}[version], "10000")
	if got := tool(t, "curl", args...); got != want {
		t.Errorf("connections for each of %d requests: %s, want %s", times, got, want)
	}
}
