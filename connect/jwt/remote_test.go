package jwt_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/jwt"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// keyServer is a cluster that answers with what it is set to.
type keyServer struct {
	mu     sync.Mutex
	jwks   string
	status int
	err    error
	takes  time.Duration
	asked  int
	head   string
	absent bool // it is no cluster yet
}

func (s *keyServer) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	s.mu.Lock()
	s.asked++
	s.head = req.Method + " " + req.Authority + " " + req.Path
	jwks, status, err, takes := s.jwks, s.status, s.err, s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-x.Context().Done():
		return nil, context.Cause(x.Context())
	}
	if err != nil {
		return nil, err
	}
	return &wire.Response{Status: status, ContentLength: int64(len(jwks)), Body: wire.NewBytes([]byte(jwks))}, nil
}

func (s *keyServer) set(jwks string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jwks, s.status, s.err = jwks, status, nil
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// fetching makes a filter that fetches its keys from s.
func fetching(t *testing.T, s *keyServer, set map[mesh.RemoteKeys]*jwt.Remote, source mesh.RemoteKeys) wire.Layer {
	t.Helper()
	return fetchingIn(t, s, set, source, nil)
}

func fetchingIn(t *testing.T, s *keyServer, set map[mesh.RemoteKeys]*jwt.Remote, source mesh.RemoteKeys, scope *stats.Scope) wire.Layer {
	t.Helper()
	source.Cluster, source.URI = "keys", "https://keys.example:8443/jwks?x"
	layer, err := jwt.Layer(requiring(&mesh.JWTProvider{Issuer: "me", Remote: &source}), jwt.Deps{
		Choose: first, Scope: scope,
		Keep: func(source mesh.RemoteKeys, build func() *jwt.Remote) *jwt.Remote {
			if set == nil {
				return build()
			}
			if set[source] == nil {
				set[source] = build()
			}
			return set[source]
		},
		Find: func(name string) wire.Service {
			if s.mu.Lock(); name != "keys" || s.absent {
				s.mu.Unlock()
				return nil
			}
			s.mu.Unlock()
			return s
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// TestClusterComesLater fetches ahead of need from a cluster that comes a moment later, as that of one snapshot does.
func TestClusterComesLater(t *testing.T) {
	t.Parallel()
	one := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		server := &keyServer{jwks: one.jwks, status: 200, absent: true}
		layer := fetching(t, server, nil, mesh.RemoteKeys{CacheFor: time.Minute, Ahead: true})
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // of synctest
		if server.count() != 0 {
			t.Error("who is not there was asked")
		}
		server.mu.Lock()
		server.absent = false
		server.mu.Unlock()
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // of synctest
		if got, _ := ask(t, layer, bearer(one.token(t, map[string]any{"iss": "me"}))); got != "" || server.count() != 1 {
			t.Errorf("%q after %d fetches", got, server.count())
		}
	})
}

// TestRemoteKeys fetches when somebody asks, once for all, and anew when keys are
// too old.
func TestRemoteKeys(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t), newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		server := &keyServer{jwks: one.jwks, status: 200, takes: time.Second}
		layer := fetching(t, server, nil, mesh.RemoteKeys{CacheFor: time.Minute})
		good, other := bearer(one.token(t, map[string]any{"iss": "me"})), bearer(two.token(t, map[string]any{"iss": "me"}))
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, _ := ask(t, layer, good); got != "" {
					t.Error(got)
				}
			})
		}
		all.Wait()
		if n := server.count(); n != 1 {
			t.Errorf("%d fetches for ten requests", n)
		}
		if diff := cmp.Diff("GET keys.example:8443 /jwks?x", server.head); diff != "" {
			t.Error(diff)
		}
		if got, _ := ask(t, layer, other); got != "Jwt verification fails" || server.count() != 1 {
			t.Errorf("%q after %d fetches", got, server.count())
		}
		server.set(two.jwks, 200)
		time.Sleep(time.Minute) //nolint:forbidigo // of synctest
		if got, _ := ask(t, layer, other); got != "" || server.count() != 2 {
			t.Errorf("after a change of keys: %q after %d fetches", got, server.count())
		}
		if got, _ := ask(t, layer, good); got != "Jwt verification fails" {
			t.Errorf("what old keys have verified is good by new ones: %q", got)
		}
		server.set("", 500)
		time.Sleep(time.Minute) //nolint:forbidigo // of synctest
		for range 5 {
			if got, _ := ask(t, layer, other); got != "Jwks remote fetch is failed" {
				t.Errorf("a token that was verified by keys that are too old is good: %q", got)
			}
		}
		if server.count() != 3 {
			t.Errorf("%d fetches: after a failure there is a rest", server.count())
		}
		server.set(two.jwks, 200)
		time.Sleep(time.Second) //nolint:forbidigo // of synctest
		if got, _ := ask(t, layer, other); got != "" {
			t.Errorf("after the rest: %q", got)
		}
	})
}

// TestTrap28 has no keys to be fetched: the filter is made all the same, tokens are
// not good, and everything else goes on.
func TestTrap28KeysCannotBeFetched(t *testing.T) {
	t.Parallel()
	one := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		server := &keyServer{err: errors.New("no route")}
		layer := fetching(t, server, nil, mesh.RemoteKeys{Ahead: true, Retries: 2, PauseBase: time.Millisecond, Timeout: time.Second})
		synctest.Wait()
		token := bearer(one.token(t, map[string]any{"iss": "me"}))
		for range 3 {
			if got, _ := ask(t, layer, token); got != "Jwks remote fetch is failed" {
				t.Errorf("got %q", got)
			}
		}
		if got, _ := ask(t, layer); got != "Jwt is missing" {
			t.Errorf("without a token: %q", got)
		}
		if n := server.count(); n != 3 {
			t.Errorf("%d tries, want 3", n)
		}
		server.set(one.jwks, 200)
		time.Sleep(2 * time.Second) //nolint:forbidigo // of synctest
		synctest.Wait()
		before := server.count()
		if got, _ := ask(t, layer, token); got != "" || server.count() != before {
			t.Errorf("keys were not fetched ahead: %q, %d and %d fetches", got, before, server.count())
		}
		// A server that hangs holds nobody up who has keys.
		server.mu.Lock()
		server.takes = time.Hour
		server.mu.Unlock()
		time.Sleep(20 * time.Minute) //nolint:forbidigo // of synctest
		started := time.Now()
		if got, _ := ask(t, layer, token); got != "" || time.Since(started) > 0 {
			t.Errorf("%q after %v", got, time.Since(started))
		}
		server.mu.Lock()
		server.takes = 0
		server.mu.Unlock()
		time.Sleep(3 * time.Second) //nolint:forbidigo // of synctest, until no fetch is under way
	})
}

// Keys that are fetched ahead go on to be used if they cannot be fetched again, for a day
// and no longer, which is counted.
func TestStaleKeys(t *testing.T) {
	t.Parallel()
	one := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		server := &keyServer{jwks: one.jwks, status: 200}
		var registry stats.Registry
		layer := fetchingIn(t, server, nil, mesh.RemoteKeys{Ahead: true, CacheFor: time.Hour, RetryAfter: time.Hour}, registry.Scope(""))
		synctest.Wait()
		token := bearer(one.token(t, map[string]any{"iss": "me", "exp": time.Now().Add(100 * time.Hour).Unix()}))
		good := func() bool {
			got, _ := ask(t, layer, token)
			return got == ""
		}
		if !good() || counterOf(&registry, "jwt_authn.jwks_stale") != 0 {
			t.Error("fresh keys are not good")
		}
		server.set("", 503)
		time.Sleep(24 * time.Hour) //nolint:forbidigo // of synctest
		if !good() || counterOf(&registry, "jwt_authn.jwks_stale") != 1 {
			t.Errorf("keys of a day ago are not good, or not counted: %d", counterOf(&registry, "jwt_authn.jwks_stale"))
		}
		time.Sleep(2 * time.Hour) //nolint:forbidigo // of synctest
		if good() {
			t.Error("they are good for ever")
		}
		server.set(one.jwks, 200)
		time.Sleep(time.Hour) //nolint:forbidigo // of synctest
		if !good() {
			t.Error("new keys are not good")
		}
	})
}

func counterOf(r *stats.Registry, name string) int64 {
	for s := range r.All() {
		if s.Name == name {
			return s.Value
		}
	}
	return -1
}

// TestKeysOutliveConfiguration: a new configuration with the same source fetches
// nothing.
func TestKeysOutliveConfiguration(t *testing.T) {
	t.Parallel()
	one := newSigner(t)
	server := &keyServer{jwks: one.jwks, status: 200}
	set := map[mesh.RemoteKeys]*jwt.Remote{}
	token := bearer(one.token(t, map[string]any{"iss": "me"}))
	before := fetching(t, server, set, mesh.RemoteKeys{})
	if got, _ := ask(t, before, token); got != "" {
		t.Fatal(got)
	}
	after := fetching(t, server, set, mesh.RemoteKeys{})
	if got, _ := ask(t, after, token); got != "" || server.count() != 1 {
		t.Errorf("%q, %d fetches", got, server.count())
	}
	ask(t, fetching(t, server, set, mesh.RemoteKeys{CacheFor: time.Minute}), token) // another
	if server.count() != 2 {
		t.Errorf("%d fetches", server.count())
	}
	if got, _ := ask(t, before, token); got != "" {
		t.Fatal(got)
	}
}
