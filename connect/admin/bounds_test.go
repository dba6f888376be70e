package admin_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/admin"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
)

// Of what may be large, few are served at a time; others wait, but not for ever, and
// what must be heard is heard at once.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handler := admin.Handler(admin.Options{
			Source: &source{}, Plane: &admin.Plane{Dump: func(url.Values) ([]byte, error) {
				<-release
				return []byte("{}"), nil
			}},
			Actions: admin.Actions{Health: func(bool) {}},
			Extra: map[string]admin.Extra{
				"/stream": {Streams: true, Handler: http.NotFoundHandler()},
				"/ask":    {Post: true, Handler: http.NotFoundHandler()},
			},
		})
		ask := func(method, path string) int {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			return w.Code
		}
		const many = 100
		codes := make(chan int, many)
		for range many {
			go func() { codes <- ask("GET", "/config_dump") }()
		}
		synctest.Wait()
		for _, one := range [][2]string{{"GET", "/ready"}, {"POST", "/healthcheck/fail"}, {"GET", "/server_info"}, {"GET", "/stream"}, {"POST", "/ask"}} {
			if got := ask(one[0], one[1]); got >= 500 {
				t.Errorf("%s %s: %d", one[0], one[1], got)
			}
		}
		if got := ask("GET", "/ask"); got != http.StatusMethodNotAllowed {
			t.Errorf("GET of what others hear of: %d", got)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // of a bubble
		close(release)
		synctest.Wait()
		var ok, refused int
		for range many {
			if got := <-codes; got == 200 {
				ok++
			} else if got == 503 {
				refused++
			}
		}
		if ok != 4 || refused != many-4 {
			t.Errorf("%d were answered, %d refused", ok, refused)
		}
		if got := ask("GET", "/config_dump"); got != 200 {
			t.Errorf("afterwards: %d", got)
		}
	})
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for text, fine := range map[string]bool{
		"":                                      true,
		"^cluster\\.(api|web)\\.upstream_rq_.*": true,
		"[0-9a-f]{8}":                           true,
		strings.Repeat("a", 1500):               true,
		strings.Repeat("a", 5000):               false,
		"(?:" + strings.Repeat("x?", 10) + "){999}": false,
		"(a{30}b{30}){30}":                          false,
		"(":                                         false,
	} {
		if _, err := admin.Pattern(text); (err == nil) != fine {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

// A page that somebody looks at cannot end the process on the same machine.
func TestOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for origin, want := range map[string]int{"https://elsewhere.example": 403, "null": 403, r.url: 200, "": 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/healthcheck/fail", nil)
		if err != nil {
			t.Fatal(err)
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("from %q: %d, want %d", origin, resp.StatusCode, want)
		}
	}
	if !slices.Equal(r.done, []string{"fail", "fail"}) {
		t.Errorf("done: %q", r.done)
	}
}

// A body that never comes holds nothing.
func TestBodyThatNeverComes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // the test's own
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection stays: %v", err)
	}
}

// A name is a name, whatever characters it has.
func TestNamesOfClusters(t *testing.T) {
	t.Parallel()
	set := upstream.NewSet(discard())
	commit, err := set.Prepare(map[string]*mesh.Cluster{"a%sb%n": {
		Name: "a%sb%n", Kind: mesh.ClusterStatic,
		Endpoints: &mesh.EndpointSet{Endpoints: []mesh.Endpoint{{Address: mesh.Address{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}, Weight: 1}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	url := serve(t, admin.Options{Address: "127.0.0.1:0", Source: &source{}, Plane: &admin.Plane{
		Clusters: set.Clusters, Static: func(string) bool { return false },
	}})[0]
	_, body := get(t, url+"/clusters")
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "a%sb%n::") || strings.Contains(line, "%!") {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(body, "a%sb%n::10.0.0.1:80::weight::1\n") {
		t.Error(body)
	}
}
