package upstream_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

func TestMaxRequests(t *testing.T) {
	t.Parallel()
	for name, protocol := range map[string]mesh.Protocol{"1": mesh.HTTP1, "2": mesh.HTTP2} {
		t.Run("HTTP/"+name, func(t *testing.T) {
			t.Parallel()
			definition := static("c", at(bothProtocols(t, hello)))
			definition.Protocol = protocol
			definition.Limits = mesh.Limits{MaxRequests: 1, HasRequests: true}
			c := newSet(t, definition).Cluster("c")
			first := newExchange()
			finish(t, first, c, request(http.MethodGet, ""))
			got := do(t, c, request(http.MethodGet, ""))
			if got.Status != 503 || got.Flag != wire.FlagUpstreamOverflow || len(got.Attempts) != 0 {
				t.Errorf("over the limit: %+v", got)
			}
			// A policy that repeats the exchange needs no second place.
			if again := finish(t, first, c, request(http.MethodGet, "")); again.Status != 200 || len(again.Attempts) != 2 {
				t.Errorf("repeated: %+v", again)
			}
			if stats := c.Stats(); !stats.OpenRequests {
				t.Errorf("%+v", stats)
			}
			first.Done(time.Now())
			if got := do(t, c, request(http.MethodGet, "")); got.Status != 200 {
				t.Errorf("after the end: %+v", got)
			}
			if stats := c.Stats(); stats.Active != 0 || stats.Overflow != 1 || stats.OpenRequests {
				t.Errorf("%+v", stats)
			}
		})
	}
	none := static("c", at(named(t, "one")))
	none.Limits = mesh.Limits{HasRequests: true}
	if got := do(t, newSet(t, none).Cluster("c"), request(http.MethodGet, "")); got.Flag != wire.FlagUpstreamOverflow {
		t.Errorf("a limit of 0: %+v", got)
	}
}

func TestAggregate(t *testing.T) {
	t.Parallel()
	aggregate := func(name string, members ...string) *mesh.Cluster {
		return &mesh.Cluster{Name: name, Kind: mesh.ClusterAggregate, Members: members}
	}
	refused := aggregate("refused", "a")
	refused.Refusal = "not understood"
	s := newSet(t, eds("a"), eds("b"), aggregate("both", "missing", "a", "b"), aggregate("outer", "empty", "both"),
		aggregate("empty"), aggregate("only missing", "missing"), aggregate("loop", "loop"), refused,
		// which would be looked up a billion times, if each time were gone into
		aggregate("many", slices.Repeat([]string{"many", "many too"}, 500)...), aggregate("many too", slices.Repeat([]string{"many"}, 1000)...))
	one, two := named(t, "one"), named(t, "two")
	body := func(cluster string) string {
		t.Helper()
		return strings.TrimSpace(do(t, s.Cluster(cluster), request(http.MethodGet, "")).Body)
	}
	const nobody = "no healthy upstream"
	steps := []struct {
		name string
		sets []*mesh.EndpointSet
		want string
	}{
		{"nobody", nil, nobody},
		{"only the second", []*mesh.EndpointSet{set("b", at(two))}, "two"},
		{"the first is preferred", []*mesh.EndpointSet{set("a", at(one))}, "one"},
		{"the first is unhealthy", []*mesh.EndpointSet{set("a", unhealthy(one))}, "two"},
		{"the first is back", []*mesh.EndpointSet{set("a", at(one))}, "one"},
		{"the first is empty", []*mesh.EndpointSet{set("a")}, "two"},
		{"nobody again", []*mesh.EndpointSet{set("b")}, nobody},
	}
	for _, step := range steps {
		for _, e := range step.sets {
			s.SetEndpoints(e)
		}
		for _, cluster := range []string{"both", "outer"} {
			if got := body(cluster); got != step.want {
				t.Errorf("%s: %s: got %q, want %q", step.name, cluster, got, step.want)
			}
			if healthy := s.Cluster(cluster).Healthy(); (healthy > 0) != (step.want != nobody) {
				t.Errorf("%s: %s: %d may be used", step.name, cluster, healthy)
			}
		}
	}
	s.SetEndpoints(set("a", at(one)))
	for cluster, want := range map[string]string{
		"empty": nobody, "only missing": nobody, "loop": nobody, "many": nobody, "refused": "upstream not available",
	} {
		if got := body(cluster); got != want {
			t.Errorf("%s: got %q, want %q", cluster, got, want)
		}
		if _, _, err := s.Cluster(cluster).Dial(t.Context(), wire.Choice{}); err == nil {
			t.Errorf("%s: dialled", cluster)
		}
	}
	if got := len(s.Cluster("many").Describe(time.Now()).Members); got != 1000 {
		t.Errorf("%d members are told of", got)
	}
	conn, host, err := s.Cluster("both").Dial(t.Context(), wire.Choice{})
	if err != nil || host.Address() != one {
		t.Fatalf("dial: %v, %v", host, err)
	}
	conn.Close()
}
