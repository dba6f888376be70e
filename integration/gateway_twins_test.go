package integration_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// oldCipher is the only cipher of listeners for old clients.
const oldCipher = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

// planesBackward are the data planes, Envoy first: if it fails the question is wrong.
func planesBackward() []string { return []string{"envoy", "serai"} }

// waitSecretTCP is waitTCP over TLS.
func waitSecretTCP(t *testing.T, addr string, config *tls.Config) {
	t.Helper()
	eventually(t, "an answer over TLS at "+addr, func(ctx context.Context) error {
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer drop(conn)
		return newMirror(conn).ping("hello")
	})
}

// gatewayRetries asks for what fails at every other instance, by a route that tries again and by one that does not.
func gatewayRetries(t *testing.T, p int) {
	t.Helper()
	for _, plane := range planesBackward() {
		found := map[string]bool{}
		eventually(t, "both instances to be asked by "+plane, func(ctx context.Context) error {
			o, err := (gatewayCall{port: p, host: "web.example", path: "/unretried/"}).through(ctx, plane)
			if err != nil {
				return err
			}
			found[o.Body] = true
			if !found["frail-1"] || !found["frail-2"] {
				return fmt.Errorf("asked are %v", found)
			}
			return nil
		})
		failed := map[string]int{}
		for _, path := range []string{"/fail/fail/frail-1", "/unretried/fail/frail-1"} {
			for range 20 {
				o, err := (gatewayCall{port: p, host: "web.example", path: path}).through(t.Context(), plane)
				must(t, err)
				if o.Status != http.StatusOK {
					failed[path]++
				}
			}
		}
		if failed["/fail/fail/frail-1"] != 0 || failed["/unretried/fail/frail-1"] == 0 || failed["/unretried/fail/frail-1"] == 20 {
			t.Errorf("%s: of 20 each fail %v", plane, failed)
		}
	}
}

// gatewayUpgrades opens a websocket.
func gatewayUpgrades(t *testing.T, p int) {
	t.Helper()
	for _, plane := range planesBackward() {
		testUpgrade(t, "http://"+planeAt(plane, p)+"/upgrade", func(r *http.Request) { r.Host = "web.example" })
	}
}

// gatewayCalls calls a service by gRPC.
func gatewayCalls(t *testing.T, p int, host string) {
	t.Helper()
	for _, plane := range planesBackward() {
		conn := dialGRPC(t, planeAt(plane, p), grpc.WithAuthority(host))
		waitGRPC(t, conn)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		testTalk(ctx, t, conn)
		if _, err := callGRPC(ctx, conn, grpcFail, ""); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", plane, err)
		}
	}
}

// gatewayHandshakes shakes hands where only old clients may, and where only modern ones may.
func gatewayHandshakes(t *testing.T, old, modern int) {
	t.Helper()
	for _, c := range []struct {
		name   string
		port   int
		client *tls.Config
		want   string
	}{
		{"any, old", old, &tls.Config{}, "TLS 1.2 " + oldCipher},
		{"modern, old", old, &tls.Config{MinVersion: tls.VersionTLS13}, "refused"},
		{"another cipher, old", old, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}}, "refused"},
		{"any, modern", modern, &tls.Config{}, "TLS 1.3"},
		{"old, modern", modern, &tls.Config{MaxVersion: tls.VersionTLS12}, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.client.InsecureSkipVerify, c.client.ServerName = true, "web.example"
			for _, plane := range planesBackward() {
				eventually(t, c.want+" by "+plane, func(ctx context.Context) error {
					got, err := handshake(ctx, planeAt(plane, c.port), c.client)
					if err == nil && got != c.want {
						err = errors.New(got)
					}
					return err
				})
			}
		})
	}
}

// handshake is what a handshake comes to; an error is that nobody listens.
func handshake(ctx context.Context, addr string, config *tls.Config) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer drop(conn)
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return "refused", nil // that is the answer
	}
	state := secured.ConnectionState()
	if state.Version == tls.VersionTLS13 { // whose ciphers nobody chooses
		return tls.VersionName(state.Version), nil
	}
	return tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite), nil
}

// limited has one request under way, and asks for one more.
func (g *twinGateway) limited(t *testing.T, service string, c gatewayCall) {
	t.Helper()
	all := map[string]map[string]string{}
	g.same(t, "an answer", c, gatewaySays(http.StatusOK, service))
	slow := c
	slow.path = "/slow/1m"
	for _, plane := range planesBackward() {
		admin := g.admin[plane]
		release := hold(t, admin, service, []string{"upstream_rq_active"}, func(ctx context.Context) { _, _ = slow.through(ctx, plane) })
		o, err := c.through(t.Context(), plane)
		must(t, err)
		if o.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d over the limit", plane, o.Status)
		}
		all[plane] = counted(t, admin, service, "upstream_rq_pending_overflow", "circuit_breakers.default.rq_open")
		release()
	}
	sameCounted(t, all)
	g.same(t, "an answer again", c, gatewaySays(http.StatusOK, service))
}

// limitedTCP has one connection, and makes one more.
func (g *twinGateway) limitedTCP(t *testing.T, service string, p int) {
	t.Helper()
	all := map[string]map[string]string{}
	for _, plane := range planesBackward() {
		addr := planeAt(plane, p)
		waitTCP(t, addr)
		all[plane] = oneTooMany(t, g.admin[plane], service, addr)
	}
	sameCounted(t, all)
}
