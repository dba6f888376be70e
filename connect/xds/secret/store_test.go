package secret_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/secret"
)

// pair makes a certificate and its key.
func pair(t *testing.T, name string) mesh.Leaf {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Leaf{
		CertificatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPEM:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

// rig is a Store that runs in a bubble.
type rig struct {
	t     *testing.T
	store *secret.Store
	dir   string

	mu      sync.Mutex // guards:
	changes int
	logs    strings.Builder
	follows map[string]*follow
	closed  int
}

// follow is what the server is asked for.
type follow struct {
	set  func([]byte, string) error
	down func(error)
	done <-chan struct{}
}

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.Write(p)
}

func (r *rig) Follow(ctx context.Context, name string, set func([]byte, string) error, down func(error)) error {
	r.mu.Lock()
	r.follows[name] = &follow{set, down, ctx.Done()}
	r.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (r *rig) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
}

func (r *rig) followed(name string) *follow {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.follows[name]
}

// body of a secret in these tests is "bad", "file PATH" or anything else, which is good.
func check(body []byte, read *secret.Reading) error {
	if string(body) == "bad" {
		return errBad
	}
	if path, ok := strings.CutPrefix(string(body), "file "); ok {
		_, err := read.Text(mesh.Data{File: path})
		return err
	}
	return nil
}

var errBad = errors.New("is bad")

func begin(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), follows: map[string]*follow{}}
	r.store = secret.New(secret.Config{
		Open:  func(mesh.SecretSource) (secret.Server, error) { return r, nil },
		Check: check,
		Changed: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changes++
		},
		Env: func(name string) (string, bool) { return "value", name == "THERE" },
	}, slog.New(slog.NewTextHandler(r, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v", err)
		}
	})
	synctest.Wait()
	return r
}

func (r *rig) write(name, text string) mesh.Data {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return mesh.Data{File: path}
}

// pass lets time go by in the bubble.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's clock jumps
	synctest.Wait()
}

func (r *rig) logged(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.logs.String(), text)
}

func (r *rig) changed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}

// leaf reads a pair anew.
func (r *rig) leaf(chain, key mesh.Data) (mesh.Leaf, *secret.Reading, error) {
	reading := r.store.Read()
	leaf, err := reading.Leaf(chain, key)
	return leaf, reading, err
}

func (r *rig) wantLeaf(chain, key mesh.Data, want mesh.Leaf) *secret.Reading {
	r.t.Helper()
	got, reading, err := r.leaf(chain, key)
	if err != nil {
		r.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Error(diff)
	}
	return reading
}

func TestPairIsReloadedAsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		one, two := pair(t, "one"), pair(t, "two")
		chain, key := r.write("chain", one.CertificatePEM), r.write("key", one.KeyPEM)
		reading := r.wantLeaf(chain, key, one)
		r.pass(time.Minute)
		if reading.Stale() || r.changed() != 0 {
			t.Fatalf("nothing has changed, and yet: stale %t, %d changes", reading.Stale(), r.changed())
		}

		r.write("chain", two.CertificatePEM)
		r.pass(3 * time.Second)
		if reading.Stale() || r.logged("not good") != 0 {
			t.Errorf("a certificate whose key is yet to be written is taken, or told of:\n%s", r.logs.String())
		}
		r.wantLeaf(chain, key, one)
		r.write("key", two.KeyPEM)
		r.pass(time.Second)
		if !reading.Stale() || r.changed() != 1 {
			t.Errorf("a new pair: stale %t, %d changes", reading.Stale(), r.changed())
		}
		reading = r.wantLeaf(chain, key, two)

		r.write("key", one.KeyPEM)
		r.pass(time.Minute)
		if reading.Stale() || r.logged("the last good one stays") != 1 || r.store.Stats().Broken != 1 {
			t.Errorf("a key of another: stale %t, %+v, log:\n%s", reading.Stale(), r.store.Stats(), r.logs.String())
		}
		r.wantLeaf(chain, key, two)
		if err := os.Remove(key.File); err != nil {
			t.Fatal(err)
		}
		r.pass(time.Minute)
		r.wantLeaf(chain, key, two)
		r.write("key", two.KeyPEM)
		r.pass(time.Second)
		if reading.Stale() || r.logged("secret is good now") != 1 || r.store.Stats().Broken != 0 {
			t.Errorf("what was good is good again: %+v, log:\n%s", r.store.Stats(), r.logs.String())
		}
	})
}

func TestFileThatComesLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		text := mesh.Data{File: filepath.Join(r.dir, "ca.pem")}
		reading := r.store.Read()
		if _, err := reading.Text(text); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		r.pass(time.Minute)
		if reading.Stale() || waits(reading) || r.logged("secret is not there") != 1 {
			t.Errorf("stale %t, waiting %t, log:\n%s", reading.Stale(), waits(reading), r.logs.String())
		}
		r.write("ca.pem", "CA")
		r.pass(time.Second)
		if !reading.Stale() || r.changed() != 1 {
			t.Errorf("stale %t, %d changes", reading.Stale(), r.changed())
		}
		if got, err := r.store.Read().Text(text); got != "CA" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		// A directory behind a link is replaced as one, as Kubernetes does it.
		for _, name := range []string{"a", "b"} {
			if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			r.write(name+"/file", name)
		}
		link := filepath.Join(r.dir, "link")
		swap := func(to string) {
			_ = os.Remove(link)
			if err := os.Symlink(filepath.Join(r.dir, to), link); err != nil {
				t.Fatal(err)
			}
		}
		swap("a")
		linked := mesh.Data{File: filepath.Join(link, "file")}
		reading = r.store.Read()
		if got, err := reading.Text(linked); got != "a" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		swap("b")
		r.pass(time.Second)
		if got, err := r.store.Read().Text(linked); got != "b" || err != nil || !reading.Stale() {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestWhatIsNoSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		one := pair(t, "one")
		large := r.write("large", strings.Repeat("x", 5<<20))
		empty := r.write("empty", "")
		read := r.store.Read()
		for _, d := range []mesh.Data{large, empty, {File: r.dir}, {Env: "NOT_THERE"}} {
			if got, err := read.Text(d); err == nil {
				t.Errorf("%s: got %d bytes", d.Name(), len(got))
			}
		}
		if got, err := read.Text(mesh.Data{Env: "THERE"}); got != "value" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if got, err := read.Leaf(mesh.Data{Inline: "C"}, mesh.Data{Inline: "K"}); err != nil || got != (mesh.Leaf{CertificatePEM: "C", KeyPEM: "K"}) {
			t.Errorf("inline: %v, %v", got, err)
		}
		for _, key := range []mesh.Data{{}, {Inline: "K"}, {File: "/no/such"}} {
			if _, err := read.Leaf(r.write("chain", one.CertificatePEM), key); err == nil {
				t.Errorf("a key from %s is taken", key.Name())
			}
		}
		if _, err := read.Secret(mesh.SecretRef{Name: "nobody's"}, 0); err == nil || waits(read) {
			t.Errorf("a static secret that is not there: %v, waiting %t", err, waits(read))
		}
	})
}

// ads is a secret that comes on the stream of all else.
func waits(r *secret.Reading) bool {
	_, waiting := r.Waiting()
	return waiting
}

func ads() mesh.SecretRef {
	return mesh.SecretRef{Name: "a", Source: mesh.SecretSource{Kind: mesh.SecretADS}}
}

func TestSecretsOfControlPlane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		reading := r.store.Read()
		if _, err := reading.Secret(ads(), 0); !errors.Is(err, secret.ErrWaiting) || !waits(reading) {
			t.Errorf("got %v, waiting %t", err, waits(reading))
		}
		if err := r.store.Set(ads(), []byte("one"), "1"); err != nil {
			t.Fatal(err)
		}
		if !reading.Stale() || waits(reading) {
			t.Errorf("stale %t, waiting %t", reading.Stale(), waits(reading))
		}
		want := func(text string) *secret.Reading {
			t.Helper()
			reading := r.store.Read()
			if got, err := reading.Secret(ads(), 0); string(got) != text || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, text)
			}
			return reading
		}
		reading = want("one")
		for _, body := range []string{"one", "bad"} {
			if err := r.store.Set(ads(), []byte(body), "1"); (err != nil) != (body == "bad") || reading.Stale() {
				t.Errorf("%s: %v, stale %t", body, err, reading.Stale())
			}
		}
		if n := r.store.Stats().Broken; n != 1 || r.logged("the last good one stays") != 1 {
			t.Errorf("%d broken, log:\n%s", n, r.logs.String())
		}
		r.store.Remove(ads())
		want("one")

		// One whose file is not there yet is taken as soon as it is.
		path := filepath.Join(r.dir, "later")
		if err := r.store.Set(ads(), []byte("file "+path), "1"); err == nil {
			t.Error("a file that is not there is no trouble")
		}
		reading = want("one")
		r.store.Keep([]*secret.Reading{reading})
		r.pass(2 * time.Second)
		r.write("later", "x")
		r.pass(2 * time.Second)
		if !reading.Stale() || r.changed() != 1 {
			t.Errorf("stale %t, %d changes", reading.Stale(), r.changed())
		}
		want("file " + path)
	})
}

func TestServerOfSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		ref := mesh.SecretRef{Name: "a", Source: mesh.SecretSource{Kind: mesh.SecretServer, Cluster: "sds"}}
		reading := r.store.Read()
		if _, err := reading.Secret(ref, 0); !errors.Is(err, secret.ErrWaiting) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		f := r.followed("a")
		f.down(errBad)
		if err := f.set([]byte("bad"), "1"); err == nil || !waits(reading) || r.changed() != 0 {
			t.Errorf("bad: %v, waiting %t, %d changes", err, waits(reading), r.changed())
		}
		if err := f.set([]byte("one"), "1"); err != nil || !reading.Stale() || r.changed() != 1 {
			t.Errorf("good: %v, stale %t, %d changes", err, reading.Stale(), r.changed())
		}
		reading = r.store.Read()
		if got, err := reading.Secret(ref, 0); string(got) != "one" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		f.down(errBad)
		r.pass(time.Minute)
		f.down(errBad)
		if got, err := r.store.Read().Secret(ref, 0); string(got) != "one" || err != nil || r.logged("the last good one stays") != 1 {
			t.Errorf("without its server: %q, %v, log:\n%s", got, err, r.logs.String())
		}
		r.store.Keep([]*secret.Reading{reading})
		select {
		case <-f.done:
			t.Error("a secret that is needed is followed no more")
		default:
		}
		r.store.Keep(nil)
		<-f.done
		if r.closed != 1 {
			t.Errorf("the server was closed %d times", r.closed)
		}
	})
}
