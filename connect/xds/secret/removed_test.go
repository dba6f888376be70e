package secret_test

import (
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/secret"
)

// What the control plane takes away goes, as soon as nobody uses it: it is no trouble, and no place is lost.
func TestRemovedSecretsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		named := func(i int) mesh.SecretRef {
			return mesh.SecretRef{Name: fmt.Sprint(i), Source: mesh.SecretSource{Kind: mesh.SecretADS}}
		}
		for i := range 5000 { // more than there may be at a time
			if err := r.store.Set(named(i), []byte("one"), "1"); err != nil {
				t.Fatal(err)
			}
			reading := r.store.Read()
			if i%2 == 0 {
				if _, err := reading.Secret(named(i), 0); err != nil {
					t.Fatal(err)
				}
			}
			r.store.Keep([]*secret.Reading{reading})
			if i%4 == 0 { // it is used a little longer than it is there
				r.store.Remove(named(i))
				r.store.Keep(nil)
				continue
			}
			r.store.Keep(nil)
			r.store.Remove(named(i))
		}
		if stats := r.store.Stats(); stats.Broken != 0 || len(r.store.Secrets()) != 0 {
			t.Errorf("%+v, %d secrets", stats, len(r.store.Secrets()))
		}
		if n := r.logged("was taken away"); n != 1250 {
			t.Errorf("told %d times", n)
		}
		// One that comes back is as any other.
		if err := r.store.Set(named(0), []byte("two"), "2"); err != nil {
			t.Fatal(err)
		}
		r.store.Keep(nil)
		if got, err := r.store.Read().Secret(named(0), 0); string(got) != "two" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// What was taken away does not come back when the file that its last edition refers to turns good.
func TestRemovedSecretsAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		ref := mesh.SecretRef{Name: "a", Source: mesh.SecretSource{Kind: mesh.SecretADS}}
		if err := r.store.Set(ref, []byte("one"), "1"); err != nil {
			t.Fatal(err)
		}
		reading := r.store.Read()
		if _, err := reading.Secret(ref, 0); err != nil {
			t.Fatal(err)
		}
		if err := r.store.Set(ref, []byte("file "+r.dir+"/later"), "2"); err == nil {
			t.Error("a secret that refers to nothing is taken")
		}
		r.store.Keep([]*secret.Reading{reading})
		r.store.Remove(ref)
		r.store.Keep([]*secret.Reading{reading})
		r.write("later", "text")
		r.pass(time.Minute)
		if reading.Stale() || r.changed() != 0 {
			t.Errorf("stale %t, %d changes", reading.Stale(), r.changed())
		}
		r.store.Keep(nil)
		if n := len(r.store.Secrets()); n != 0 {
			t.Errorf("%d secrets stay", n)
		}
	})
}

// Files are looked at without a lock: who asks how secrets fare does not wait for a file system.
func TestStatsDoNotWaitForFiles(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	one := pair(t, "one")
	store := secret.New(secret.Config{
		Changed: func() {},
		Env: func(string) (string, bool) {
			if slow.Load() {
				select {
				case entered <- struct{}{}:
				default: // told already
				}
				<-leave
			}
			return one.KeyPEM, true
		},
	}, slog.New(slog.DiscardHandler))
	chain := mesh.Data{File: t.TempDir() + "/chain"}
	if err := os.WriteFile(chain.File, []byte(one.CertificatePEM), 0o600); err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().Add(time.Hour) // so that it is too new to be believed, and read anew
	if err := os.Chtimes(chain.File, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Read().Leaf(chain, mesh.Data{Env: "KEY"}); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		store.Run(t.Context()) //nolint:errcheck // it ends with the context
	}()
	select {
	case <-entered:
	case <-time.After(time.Minute):
		t.Fatal("the file is not looked at")
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		store.Stats()
	}()
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Error("who asks waits for a file")
	}
	close(leave)
	t.Cleanup(func() { <-done })
}
