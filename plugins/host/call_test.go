package host_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/host"
)

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	i := s.one(t, cast(t, "good"))
	got, err := authenticate(t, i, "/")
	if err != nil {
		t.Fatal(err)
	}
	want := &plugins.Identity{
		Consumer: "acme", Remove: []string{"authorization"},
		Set: []plugins.Field{{Name: "x-pid", Value: strconv.Itoa(s.stats(t, "good").Pid)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	_, err = authenticate(t, i, "/refuse")
	refused, ok := errors.AsType[*plugins.Refusal](err)
	if !ok {
		t.Fatalf("got %v, want a refusal", err)
	}
	wantRefusal := &plugins.Refusal{Status: 401, Text: "who are you?", Header: []plugins.Field{{Name: "www-authenticate", Value: "Good"}}}
	if diff := cmp.Diff(wantRefusal, refused); diff != "" {
		t.Errorf("refusal (-want +got):\n%s", diff)
	}
	for path, text := range map[string]string{
		"/fail":    `plugin "good": plugin failed: no database[2J`,
		"/nothing": `plugin "good": plugin failed: the plugin's Authenticate returned nothing: this is a mistake of its author`,
		"/panic":   `plugin "good": plugin failed: panic: at the disco`,
	} {
		if _, err := authenticate(t, i, path); !errors.Is(err, host.ErrFailed) || err.Error() != text {
			t.Errorf("%s: got %v, want %s", path, err, text)
		}
	}
	stats := s.stats(t, "good")
	if stats.Calls != 5 || stats.Refused != 1 || stats.Failed != 3 || stats.Starts != 1 || stats.Ends != 0 || stats.Active != 0 {
		t.Errorf("stats are %+v", stats)
	}
	eventually(t, "the panic is in the log", func() bool {
		return strings.Contains(s.log.String(), `level=ERROR msg=panic plugin=good panic="at the disco"`)
	})
	eventually(t, "standard output is in the log", func() bool { return strings.Contains(s.log.String(), `"printed on standard output" plugin=good`) })
}

func TestTransform(t *testing.T) {
	t.Parallel()
	i := open(t, quick()).one(t, cast(t, "good"))
	r := &plugins.Request{Path: "/p?q", Header: []plugins.Field{{Name: "a", Value: "1"}, {Name: "b", Value: "\xfe"}}}
	change, err := i.TransformRequest(t.Context(), r)
	want := &plugins.RequestChange{HeaderChange: plugins.HeaderChange{
		Remove: []string{"a"}, Set: []plugins.Field{{Name: "b", Value: "\xfe\xff!"}}, Add: []plugins.Field{{Name: "c"}},
	}, Path: "/changed/p?q"}
	if diff := cmp.Diff(want, change); err != nil || diff != "" {
		t.Errorf("request: %v (-want +got):\n%s", err, diff)
	}
	changed, err := i.TransformResponse(t.Context(), r, &plugins.Response{Status: 200, Header: []plugins.Field{{Name: "x", Value: "!"}}})
	wantResponse := &plugins.ResponseChange{HeaderChange: plugins.HeaderChange{Set: []plugins.Field{{Name: "was", Value: "200!"}}}, Status: 299}
	if diff := cmp.Diff(wantResponse, changed); err != nil || diff != "" {
		t.Errorf("response: %v (-want +got):\n%s", err, diff)
	}
	r.Path = "/keep"
	if change, err := i.TransformRequest(t.Context(), r); change != nil || err != nil {
		t.Errorf("no change is %v, %v", change, err)
	}
	if change, err := i.TransformResponse(t.Context(), r, &plugins.Response{Status: 200}); change != nil || err != nil {
		t.Errorf("no change is %v, %v", change, err)
	}
	r.Path = "/refuse"
	_, err = i.TransformRequest(t.Context(), r)
	if refused, ok := errors.AsType[*plugins.Refusal](err); !ok || refused.Status != 451 {
		t.Errorf("got %v, want a refusal of 451", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	i := open(t, quick()).one(t, cast(t, "good", func(c *host.Config) { c.Env["MINE"] = "1" }))
	identity, err := authenticate(t, i, "/env")
	if err == nil { // all names are too long for a consumer's
		t.Fatalf("got %v", identity)
	}
	if !strings.Contains(err.Error(), "env:") {
		t.Fatal(err)
	}
	if path := os.Getenv("PATH"); path == "" || strings.Contains(err.Error(), path) {
		t.Errorf("PATH is %q: %v", path, err)
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	i := open(t, quick()).one(t, cast(t, "good", func(c *host.Config) { c.MaxBody = 3 << 20 }))
	if i.Bodies() != 3<<20 {
		t.Errorf("it takes %d bytes", i.Bodies())
	}
	got, err := i.Authenticate(t.Context(), &plugins.Request{Path: "/body", Body: []byte("hi")})
	if err != nil || got.Consumer != "body:hi" {
		t.Errorf("got %v, %v", got, err)
	}
	r := &plugins.Request{Path: "/name/large", Body: make([]byte, 3<<20)}
	if got, err := i.Authenticate(t.Context(), r); err != nil || got.Consumer != "large" {
		t.Errorf("got %v, %v", got, err)
	}
	r.Body = append(r.Body, 0)
	if _, err := i.Authenticate(t.Context(), r); !errors.Is(err, host.ErrFailed) {
		t.Errorf("a larger body: got %v", err)
	}
}

// TestHang shows that a plugin that hangs costs its own calls a timeout, that
// others are told at once, and that another plugin does not notice.
func TestHang(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	hangs := cast(t, "good", func(c *host.Config) { c.Name, c.Timeout, c.MaxConcurrent = "hangs", 2*time.Second, 2 })
	instances := s.commit(t, []host.Config{hangs, cast(t, "good")},
		host.Use{Plugin: "hangs", Settings: map[string]any{"consumer": "a"}},
		host.Use{Plugin: "good", Settings: map[string]any{"consumer": "b"}})
	if _, err := authenticate(t, instances[0], "/hang"); !errors.Is(err, host.ErrTimeout) ||
		err.Error() != `plugin "hangs": plugin did not answer in time: timeout is 2s` {
		t.Errorf("got %v", err)
	}
	const calls = 20 // 2 under way, 8 wait, 10 are too many
	errs := make([]error, calls)
	var calling sync.WaitGroup
	for n := range calls {
		calling.Go(func() { _, errs[n] = authenticate(t, instances[0], "/hang") })
	}
	if err := answers(instances[1]); err != nil {
		t.Errorf("the other plugin: %v", err)
	}
	calling.Wait()
	timeouts, overloads := 0, 0
	for _, err := range errs {
		switch {
		case errors.Is(err, host.ErrTimeout):
			timeouts++
		case errors.Is(err, host.ErrOverload):
			overloads++
		default:
			t.Errorf("got %v", err)
		}
	}
	if timeouts < 2 || overloads < 10 {
		t.Errorf("%d timeouts and %d overloads", timeouts, overloads)
	}
	if stats := s.stats(t, "hangs"); stats.Timeouts != int64(timeouts)+1 || stats.Overloads != int64(overloads) || stats.Waiting != 0 || stats.Active != 0 {
		t.Errorf("stats are %+v", stats)
	}
	if err := answers(instances[0]); err != nil {
		t.Errorf("what does not hang: %v", err)
	}
}

// TestCallerLeaves shows that it is no failure of the plugin, and that the plugin
// learns of it.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	i := s.one(t, cast(t, "good", func(c *host.Config) { c.MaxConcurrent = 1 }))
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := i.Authenticate(ctx, &plugins.Request{Path: "/wait"})
		done <- err
	}()
	eventually(t, "the call is under way", func() bool { return s.stats(t, "good").Active == 1 })
	cancel(gone)
	if err := <-done; !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if stats := s.stats(t, "good"); stats.Canceled != 1 || stats.Timeouts+stats.Failed+stats.Violations != 0 {
		t.Errorf("stats are %+v", stats)
	}
	if err := answers(i); err != nil {
		t.Error(err)
	}
}

// TestLies shows that answers that break the protocol are dropped with a reason,
// and that the plugin serves on.
func TestLies(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	i := s.one(t, cast(t, "liar"))
	for path, want := range map[string]string{
		"/empty":     "the answer is empty",
		"/injection": `the value of the field "x-a" has characters that no field may have, or blanks at its ends: "a\r\nx-b: c"`,
		"/name":      `"x a" is no name of a field in lower case`,
		"/framing":   `the field "content-length" is the proxy's to set`,
		"/identity":  `the field "x_serai-consumer" is one by which the edge vouches for the caller`,
		"/many":      "it has more than 128 fields",
		"/huge":      "ResourceExhausted: grpc: received message larger than max",
		"/large":     "its fields have more than 65536 bytes",
		"/status":    "it refuses with the status 200; want 400 to 599",
		"/text":      "the text of its refusal has 5000 bytes; at most 4096",
		"/code":      "PermissionDenied: made up",
	} {
		_, err := authenticate(t, i, path)
		if !errors.Is(err, host.ErrProtocol) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	if _, err := i.TransformRequest(t.Context(), &plugins.Request{}); !errors.Is(err, host.ErrProtocol) {
		t.Errorf("what it does not have: %v", err)
	}
	if got, err := authenticate(t, i, "/"); err != nil || got.Consumer != "acme" {
		t.Errorf("got %v, %v", got, err)
	}
	if stats := s.stats(t, "liar"); stats.Violations != 12 || stats.Ends != 0 {
		t.Errorf("stats are %+v", stats)
	}
}
