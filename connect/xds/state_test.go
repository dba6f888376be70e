package xds_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// keeping is a Watcher that keeps its state in dir.
func keeping(dir string) func(*xds.Config) {
	return func(c *xds.Config) { c.State.Dir = dir }
}

// leafUntil is a certificate and its key.
func leafUntil(t *testing.T, end time.Time, names ...*url.URL) (chain, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: end, URIs: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalECPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: bytes}))
}

func inline(text string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}}
}

func securedCluster(t *testing.T, end time.Time, names ...*url.URL) *clusterv3.Cluster {
	t.Helper()
	chain, key := leafUntil(t, end, names...)
	c := edsCluster("api", 1)
	c.TransportSocket = &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(t, &tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: inline(chain), PrivateKey: inline(key)}},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
				ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(chain)},
			},
		},
	})}}
	return c
}

// kept runs a Watcher until its state is on disk, and ends it.
func kept(t *testing.T, dir string) {
	t.Helper()
	r, end := beginWith(t, keeping(dir))
	r.source.handler.Up()
	r.update(resource.ClusterType, securedCluster(t, time.Now().Add(time.Hour)))
	r.update(resource.EndpointsType, claWith("api", 2))
	r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "api"))
	r.pass(time.Minute)
	if got := r.watcher.Status(); got.Saves == 0 || got.SaveFailures != 0 || got.Saved.IsZero() {
		t.Errorf("not kept: %+v", got)
	}
	end()
}

func stateDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "state")
}

func stateFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	return files[0]
}

func TestStateServesWithoutConsul(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	synctest.Test(t, func(t *testing.T) {
		kept(t, dir)
		if info, err := os.Stat(stateFile(t, dir)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file of mode %v, %v", info.Mode(), err)
		}
		r, _ := beginWith(t, keeping(dir))
		synctest.Wait()
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		<-r.watcher.Ready()
		if got := r.watcher.Status(); !got.Restored || r.endpoints("api") != 2 {
			t.Errorf("%d endpoints, %+v", r.endpoints("api"), got)
		}
		// Consul is asked for what differs, and its truth is in force at once.
		if held := r.source.handler.Held(resource.ListenerType); held["api:1"] != "v" {
			t.Errorf("held %v", held)
		}
		r.source.handler.Up()
		r.update(resource.ClusterType, staticCluster("other"))
		r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "other"))
		if got := r.store.Load().Listeners["api:1"].Chains[0].TCP.Targets[0].Cluster; got != "other" {
			t.Errorf("goes to %s", got)
		}
		if r.watcher.Status().Restored {
			t.Error("Consul's word is not taken for confirmation")
		}
		r.pass(24 * time.Hour) // no end of the kept certificate any more
		r.wantForce("listeners [api:1] routes [] clusters [api other]")
	})
}

func TestStateServesUntilItsCertificateExpires(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	synctest.Test(t, func(t *testing.T) {
		kept(t, dir)
		r, end := beginWith(t, keeping(dir))
		r.pass(50 * time.Minute)
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		r.pass(10 * time.Minute)
		r.wantForce("listeners [] routes [] clusters []")
		if got := r.watcher.Status(); !got.Expired || got.Restored || r.logged("nothing is served") != 1 {
			t.Errorf("got %+v", got)
		}
		if held := r.source.handler.Held(resource.ListenerType); len(held) != 0 {
			t.Errorf("held %v", held)
		}
		r.source.handler.Up()
		r.bring()
		if r.watcher.Status().Expired {
			t.Error("expired though Consul has spoken")
		}
		end()
	})
}

func TestStateThatIsNotUsed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		spoil  func(t *testing.T, file string)
		change func(*xds.Config)
		after  time.Duration
		want   string
	}{
		{"another proxy", nil, func(c *xds.Config) { c.ADS.Node.Cluster = "other" }, 0, "it is of proxy"},
		{"another agent", nil, func(c *xds.Config) { c.ADS.Target = mesh.Address{Socket: "/other"} }, 0, "it is of the Consul at /consul"},
		{"expired", nil, nil, 2 * time.Hour, "has expired at"},
		{"torn", func(t *testing.T, file string) {
			t.Helper()
			text, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, text[:len(text)/2], 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "EOF"},
		{"spoilt", func(t *testing.T, file string) {
			t.Helper()
			text, err := os.ReadFile(file)
			if err == nil {
				text[len(text)/2] ^= 0x55
				err = os.WriteFile(file, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, nil, 0, ""},
		{"a link", func(t *testing.T, file string) {
			t.Helper()
			if err := errors.Join(os.Rename(file, file+".real"), os.Symlink(file+".real", file)); err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "it is no file"},
		{"of another user", func(t *testing.T, file string) {
			t.Helper()
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			if err := os.Chown(file, 1, 1); err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "belongs to user 1"},
		{"from the future", func(t *testing.T, file string) {
			t.Helper()
			text := `{"Format":"serai xds state 1","Proxy":"web1","Agent":"/consul","Saved":"` + time.Now().Add(2*time.Hour).Format(time.RFC3339) + `"}`
			if err := os.WriteFile(file, packed(t, []byte(text)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "from the future"},
		{"open to others", func(t *testing.T, file string) {
			t.Helper()
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "open to others"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := stateDir(t)
			synctest.Test(t, func(t *testing.T) {
				kept(t, dir)
				if row.spoil != nil {
					row.spoil(t, stateFile(t, dir))
				}
				time.Sleep(row.after) //nolint:forbidigo // the bubble's clock jumps
				r, _ := beginWith(t, func(c *xds.Config) {
					c.State.Dir = dir
					if row.change != nil {
						row.change(c)
					}
				})
				synctest.Wait()
				r.wantForce("none")
				if r.logged("the kept configuration is not used") != 1 || r.logged(row.want) == 0 {
					r.locked(func() { t.Error(r.logs.String()) })
				}
				r.source.handler.Up()
				r.bring() // and all is well without
			})
		})
	}
}

// Certificates of users, and none at all, do not make a file good for longer than those
// of Consul would, which are as good as they say.
func TestStateWithoutOurCertificate(t *testing.T) {
	t.Parallel()
	consuls := &url.URL{Scheme: "spiffe", Host: "td.consul", Path: "/ns/default/dc/dc1/svc/web"}
	const year = 365 * 24 * time.Hour
	for name, tt := range map[string]struct {
		cluster func(t *testing.T) *clusterv3.Cluster
		hours   time.Duration
	}{
		"none": {func(t *testing.T) *clusterv3.Cluster { t.Helper(); return edsCluster("api", 1) }, 72},
		"a user's": {func(t *testing.T) *clusterv3.Cluster {
			t.Helper()
			return securedCluster(t, time.Now().Add(year))
		}, 72},
		"Consul's": {func(t *testing.T) *clusterv3.Cluster {
			t.Helper()
			return securedCluster(t, time.Now().Add(200*time.Hour), consuls)
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := stateDir(t)
			synctest.Test(t, func(t *testing.T) {
				r, end := beginWith(t, keeping(dir))
				r.source.handler.Up()
				began := time.Now()
				r.update(resource.ClusterType, tt.cluster(t))
				r.update(resource.EndpointsType, claWith("api", 2))
				r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "api"))
				r.pass(10 * time.Second)
				end()
				r.pass(time.Until(began.Add((tt.hours - 1) * time.Hour)))
				r, end = beginWith(t, keeping(dir))
				synctest.Wait()
				r.wantForce("listeners [api:1] routes [] clusters [api]")
				r.pass(time.Hour + 20*time.Second)
				r.wantForce("listeners [] routes [] clusters []")
				end()
				r, _ = beginWith(t, keeping(dir))
				synctest.Wait()
				r.wantForce("none")
			})
		})
	}
}

// A file that could not be written is written when it can be, though nothing changes, and
// now and then anyhow: it is still what Consul says.
func TestStateIsWrittenAgain(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	synctest.Test(t, func(t *testing.T) {
		r, _ := beginWith(t, keeping(dir))
		r.source.handler.Up()
		r.bring()
		r.pass(time.Minute)
		if err := os.Rename(dir, dir+".gone"); err != nil {
			t.Fatal(err)
		}
		r.update(resource.EndpointsType, claWith("api", 5))
		r.pass(2 * time.Minute)
		if got := r.watcher.Status(); got.SaveFailures == 0 || !got.Unsaved || r.logged("could not be kept") != 1 {
			t.Errorf("got %+v", got)
		}
		if err := os.Rename(dir+".gone", dir); err != nil {
			t.Fatal(err)
		}
		r.pass(time.Minute)
		saved := r.watcher.Status()
		if saved.Unsaved || time.Since(saved.Saved) > time.Minute {
			t.Errorf("got %+v", saved)
		}
		r.pass(13 * time.Hour)
		if got := r.watcher.Status(); got.Saves != saved.Saves+1 || time.Since(got.Saved) > 2*time.Hour {
			t.Errorf("a file gets old: %+v", got)
		}
		r.source.handler.Down(&ads.Error{Kind: ads.Ended})
		r.pass(48 * time.Hour)
		if got := r.watcher.Status(); got.Saves != saved.Saves+1 {
			t.Errorf("what nobody says is written: %+v", got)
		}
	})
}

// Two processes of one proxy may write at the same time, of which one is about to end:
// whoever reads sees a whole file, and nothing is left behind.
func TestStateOfTwoWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "xds-web1.state")
	old := path + ".new-1"
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := xds.WriteState(path, 100); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 50 {
				if err := xds.WriteState(path, 100); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := xds.ReadState(bytes.NewReader(text)); n != 100 || err != nil {
			t.Fatalf("%d resources, %v", n, err)
		}
	}
	if got := stateFile(t, dir); got != path {
		t.Errorf("left behind: %s", got)
	}
}

// What is told right after a reconnect may not be the truth, and is not kept.
func TestStateIsNotKeptInDoubt(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	synctest.Test(t, func(t *testing.T) {
		r, end := beginWith(t, keeping(dir))
		r.source.handler.Up()
		r.bring()
		r.pass(time.Minute)
		r.reconnect()
		r.change(resource.ListenerType, []string{"api:1"})
		r.change(resource.ClusterType, []string{"api"})
		r.pass(40 * time.Second)
		end()
		text, err := os.ReadFile(stateFile(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := xds.ReadState(bytes.NewReader(text)); n != 3 || err != nil {
			t.Errorf("%d resources, %v", n, err)
		}
	})
}

func TestStateIsWrittenSeldom(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	synctest.Test(t, func(t *testing.T) {
		r, _ := beginWith(t, keeping(dir))
		r.source.handler.Up()
		r.bring()
		for i := range 300 {
			r.update(resource.EndpointsType, claWith("api", 1+i%5))
			r.pass(time.Second)
		}
		if got := r.watcher.Status().Saves; got < 12 || got > 16 {
			t.Errorf("written %d times in 300 s", got)
		}
	})
}

func TestStateFolder(t *testing.T) {
	t.Parallel()
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{open: "is open to others", file: "not a directory"} {
		config := xds.Config{Source: &source{}, State: xds.State{Dir: dir}}
		if _, err := xds.New(config, &mesh.Store{}, nil, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
}

func FuzzStateFile(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "state")
	config := xds.Config{Source: &source{}, State: xds.State{Dir: dir}}
	if _, err := xds.New(config, &mesh.Store{}, nil, nil, nil); err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		`{"Format":"serai xds state 1","Resources":1}` + "\n" + `{"Type":"a","Name":"b","Version":"c","Body":"ZA=="}`,
		`{"Format":"serai xds state 1"}`, `{"Format":"x"}`, `{`, ``,
	} {
		f.Add([]byte(text), true)
	}
	f.Add([]byte("x"), false)
	f.Fuzz(func(t *testing.T, text []byte, pack bool) {
		if pack {
			text = packed(t, text)
		}
		if n, err := xds.ReadState(bytes.NewReader(text)); err == nil && n > len(text)*2000 {
			t.Errorf("%d resources of %d bytes", n, len(text))
		}
	})
}

func packed(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
