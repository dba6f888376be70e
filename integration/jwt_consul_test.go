package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	consulapi "github.com/hashicorp/consul/api"
)

// jwtWorld is a Consul with token issuers, and one service behind a sidecar of ours and the same behind Envoy.
type jwtWorld struct {
	*world
	caller *instance
	keys   int // port of the server of keys
}

// provider writes a jwt-provider config entry.
func (w *jwtWorld) provider(t *testing.T, name string, edit func(*consulapi.JWTProviderConfigEntry)) {
	t.Helper()
	entry := &consulapi.JWTProviderConfigEntry{Kind: consulapi.JWTProvider, Name: name, Issuer: name, CacheConfig: &consulapi.JWTCacheConfig{Size: 10}}
	edit(entry)
	must(t, w.consul.WriteConfigEntry(t.Context(), entry))
}

func (w *jwtWorld) remote(host string, kind consulapi.ClusterDiscoveryType) func(*consulapi.JWTProviderConfigEntry) {
	return func(entry *consulapi.JWTProviderConfigEntry) {
		entry.JSONWebKeySet = &consulapi.JSONWebKeySet{Remote: &consulapi.RemoteJWKS{
			URI: fmt.Sprintf("http://%s:%d/%s", host, w.keys, entry.Name), FetchAsynchronously: true, RequestTimeoutMs: 2000,
			JWKSCluster: &consulapi.JWKSCluster{DiscoveryType: kind},
		}}
	}
}

// intend writes the same intentions for both services; permissions are what the caller may, top what all need.
func (w *jwtWorld) intend(t *testing.T, top *consulapi.IntentionJWTRequirement, permissions ...*consulapi.IntentionPermission) {
	t.Helper()
	for _, service := range []string{"ours", "theirs"} {
		source := &consulapi.SourceIntention{Name: "caller", Permissions: permissions}
		if len(permissions) == 0 {
			source.Action = consulapi.IntentionActionAllow
		}
		must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceIntentionsConfigEntry{
			Kind: consulapi.ServiceIntentions, Name: service, JWT: top, Sources: []*consulapi.SourceIntention{source},
		}))
	}
}

func needs(providers ...*consulapi.IntentionJWTProvider) *consulapi.IntentionJWTRequirement {
	return &consulapi.IntentionJWTRequirement{Providers: providers}
}

func from(provider string, claims ...*consulapi.IntentionJWTClaimVerification) *consulapi.IntentionJWTProvider {
	return &consulapi.IntentionJWTProvider{Name: provider, VerifyClaims: claims}
}

func claim(value string, path ...string) *consulapi.IntentionJWTClaimVerification {
	return &consulapi.IntentionJWTClaimVerification{Path: path, Value: value}
}

func permit(prefix string, jwt *consulapi.IntentionJWTRequirement) *consulapi.IntentionPermission {
	return &consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: prefix}, JWT: jwt}
}

// same asks both services, and complains unless both give the status.
func (w *jwtWorld) same(t *testing.T, status int, path string, fields ...string) {
	t.Helper()
	edit := func(r *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			r.Header.Add(fields[i], fields[i+1])
		}
	}
	for _, service := range []string{"ours", "theirs"} {
		if got := get(t, w.caller.url(service, path), edit); got.status != status {
			t.Errorf("%s: %s %.60q: status %d, want %d: %.200s", service, path, fields, got.status, status, got.body)
		}
	}
}

// await waits until a service gives the status.
func (w *jwtWorld) await(t *testing.T, service string, status int, path string, fields ...string) {
	t.Helper()
	client := strict(t)
	eventually(t, fmt.Sprintf("status %d of %s%s", status, service, path), func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.caller.url(service, path), http.NoBody)
		if err != nil {
			return err
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header.Add(fields[i], fields[i+1])
		}
		got, err := send(client, req)
		if err == nil && got.status != status {
			err = fmt.Errorf("status %d: %.200s", got.status, got.body)
		}
		return err
	})
}

// TestJWTIntentions has Consul make intentions of tokens, with ACLs on, and asks through our sidecar and through Envoy.
func TestJWTIntentions(t *testing.T) {
	t.Parallel()
	w := &jwtWorld{world: newWorld(t, map[string]string{"caller": "http", "ours": "http", "theirs": "http", "named": "http"})}
	i, other := newIssuer(t), newIssuer(t)
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/remote", "/byname", "/static":
			_, _ = rw.Write([]byte(i.jwks(t, "rs", "es")))
		default:
			http.NotFound(rw, r)
		}
	}))
	t.Cleanup(keys.Close)
	addr, _ := keys.Listener.Addr().(*net.TCPAddr)
	w.keys = addr.Port
	w.provider(t, "local", func(e *consulapi.JWTProviderConfigEntry) {
		e.JSONWebKeySet = &consulapi.JSONWebKeySet{Local: &consulapi.LocalJWKS{JWKS: local64Std(i.jwks(t, "es", "ed"))}}
		e.Audiences = []string{"app"}
		e.Forwarding = &consulapi.JWTForwardingConfig{HeaderName: "x-payload"}
		e.Locations = []*consulapi.JWTLocation{
			{Header: &consulapi.JWTLocationHeader{Name: "x-local", ValuePrefix: "Token "}},
			{QueryParam: &consulapi.JWTLocationQueryParam{Name: "tok"}},
			{Cookie: &consulapi.JWTLocationCookie{Name: "jwt"}},
		}
	})
	w.provider(t, "remote", w.remote("127.0.0.1", consulapi.DiscoveryTypeStatic))
	w.provider(t, "byname", w.remote("localhost", consulapi.DiscoveryTypeStrictDNS))
	w.provider(t, "gone", w.remote("127.0.0.1", consulapi.DiscoveryTypeStatic)) // whose keys are not there
	w.intend(t, nil)
	w.run(t, "ours-1", "ours")
	theirs := w.register(t, "theirs-1", "theirs")
	w.envoy(t, theirs)
	w.caller = w.run(t, "caller-1", "caller", "ours", "theirs", "named")
	for _, service := range []string{"ours", "theirs"} {
		waitStatus(t, w.caller.url(service, "/"), http.StatusOK)
	}

	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	of := func(provider, kid string, changes map[string]any) string {
		all := map[string]any{"iss": provider}
		maps.Copy(all, changes)
		return i.token(t, kid, all)
	}
	wait := func(status int, path string, fields ...string) {
		t.Helper()
		w.await(t, "ours", status, path, fields...)
		w.await(t, "theirs", status, path, fields...)
	}
	const ok, no = http.StatusOK, http.StatusForbidden
	t.Run("local", func(t *testing.T) {
		w.intend(t, needs(from("local", claim("admin", "perms", "role"))))
		admin := map[string]any{"perms": map[string]any{"role": "admin"}}
		good := of("local", "es", admin)
		wait(no, "/")
		wait(ok, "/", "X-Local", "Token "+good)
		w.same(t, ok, "/?tok="+good)
		w.same(t, ok, "/", "Cookie", "a=b; jwt="+good)
		w.same(t, ok, "/", "X-Local", "Token "+of("local", "ed", admin))
		w.same(t, no, "/", bearer(good)...) // not a place
		w.same(t, no, "/", "X-Local", good) // not its prefix
		w.same(t, no, "/", "X-Local", "Token "+of("local", "es", nil))
		w.same(t, no, "/", "X-Local", "Token "+of("local", "es", map[string]any{"perms": "admin"}))
		w.same(t, no, "/", "X-Local", "Token "+of("local", "es", map[string]any{"perms": map[string]any{"role": "user"}}))
		w.same(t, no, "/", "X-Local", "Token "+of("local", "es", map[string]any{"perms": map[string]any{"role": "admin"}, "aud": "other"}))
		w.same(t, no, "/", "X-Local", "Token "+of("local", "es", map[string]any{"perms": map[string]any{"role": "admin"}, "exp": 1}))
		w.same(t, no, "/", "X-Local", "Token "+of("other", "es", admin))
		w.same(t, no, "/", "X-Local", "Token "+of("local", "rs", admin)) // not among its keys
		w.same(t, no, "/", "X-Local", "Token "+other.token(t, "es", map[string]any{"iss": "local", "perms": map[string]any{"role": "admin"}}))
		w.same(t, no, "/", "X-Payload", "forged")
	})
	t.Run("remote", func(t *testing.T) {
		for _, name := range []string{"remote", "byname"} {
			w.intend(t, needs(from(name)))
			wait(no, "/")
			wait(ok, "/", bearer(of(name, "rs", nil))...)
			w.same(t, ok, "/?access_token="+of(name, "es", nil))
			w.same(t, no, "/", bearer(of(name, "ed", nil))...)
			w.same(t, no, "/", bearer(of("local", "rs", nil))...)
			w.same(t, no, "/", bearer(other.token(t, "rs", map[string]any{"iss": name}))...)
		}
	})
	t.Run("several", func(t *testing.T) {
		w.intend(t, needs(from("remote", claim("a", "team")), from("byname", claim("b", "team"))))
		wait(ok, "/", bearer(of("remote", "rs", map[string]any{"team": "a"}))...)
		wait(ok, "/", bearer(of("byname", "rs", map[string]any{"team": "b"}))...)
		w.same(t, no, "/", bearer(of("remote", "rs", map[string]any{"team": "b"}))...)
		w.same(t, no, "/", bearer(of("byname", "rs", map[string]any{"team": "a"}))...)
		w.same(t, no, "/")
	})
	t.Run("permissions", func(t *testing.T) {
		w.intend(t, nil, permit("/x/open", nil), permit("/x/remote", needs(from("remote"))), permit("/x/admin", needs(from("remote", claim("admin", "role")))))
		wait(no, "/x/remote")
		wait(ok, "/x/open")
		w.same(t, ok, "/x/remote", bearer(of("remote", "rs", nil))...)
		w.same(t, no, "/x/admin", bearer(of("remote", "rs", nil))...)
		w.same(t, ok, "/x/admin", bearer(of("remote", "rs", map[string]any{"role": "admin"}))...)
		w.same(t, no, "/x/other", bearer(of("remote", "rs", map[string]any{"role": "admin"}))...)
		w.same(t, ok, "/x/open", bearer("no token")...)
		w.same(t, no, "/x/open/../admin", bearer(of("remote", "rs", nil))...)
		w.same(t, no, "/x/open/%2e%2e/admin", bearer(of("remote", "rs", nil))...)
	})
	t.Run("both", func(t *testing.T) {
		w.intend(t, needs(from("remote")), permit("/x/team", needs(from("byname", claim("b", "team")))))
		both := func(team string) []string {
			return []string{"Authorization", "Bearer " + of("remote", "rs", nil), "X-Nothing", team}
		}
		wait(no, "/x/team", both("b")...)
		w.same(t, no, "/x/team", bearer(of("byname", "rs", map[string]any{"team": "b"}))...)
		w.same(t, no, "/x/team?access_token="+of("byname", "rs", map[string]any{"team": "b"}), bearer(of("remote", "rs", nil))...)
	})
	t.Run("keys that are not there", func(t *testing.T) {
		w.intend(t, nil, permit("/x/open", nil), permit("/x/gone", needs(from("gone"))))
		wait(no, "/x/gone", bearer(of("gone", "rs", nil))...)
		wait(ok, "/x/open")
		w.same(t, ok, "/x/open", bearer(of("gone", "rs", nil))...)
	})
	t.Run("trap 28: a static cluster with a name", func(t *testing.T) {
		// Envoy refuses such a cluster, and would keep its old configuration: only ours is asked.
		w.provider(t, "static", w.remote("localhost", consulapi.DiscoveryTypeStatic))
		must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceIntentionsConfigEntry{
			Kind: consulapi.ServiceIntentions, Name: "named", JWT: needs(from("static")),
			Sources: []*consulapi.SourceIntention{{Name: "caller", Action: consulapi.IntentionActionAllow}},
		}))
		w.run(t, "named-1", "named")
		w.await(t, "named", no, "/")
		w.await(t, "named", ok, "/", bearer(of("static", "rs", nil))...)
	})
}
