package listen_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
)

func contextDone() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

// taken is an address that somebody else has bound.
func taken(t *testing.T) (mesh.Address, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.12.6:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return mesh.Address{AddrPort: netip.MustParseAddrPort(l.Addr().String())}, l
}

// free is an address that nobody has bound, and from which nobody dials.
func free(t *testing.T) mesh.Address {
	t.Helper()
	address, l := taken(t)
	l.Close()
	return address
}

// mustBeFree expects that nobody has bound address.
func mustBeFree(t *testing.T, address mesh.Address) {
	t.Helper()
	l, err := net.Listen(address.Network(), address.String())
	if err != nil {
		t.Errorf("something was left: %v", err)
		return
	}
	l.Close()
}

func TestServe(t *testing.T) {
	t.Parallel()
	s := newSet(t, listen.Config{}, spec("127.0.0.1", chain(&echo{})), spec("127.0.0.2", chain(&echo{})))
	var names []string
	for _, l := range s.Stats() {
		names = append(names, l.Name)
		if !l.Bound || strings.HasSuffix(l.Address, ":0") {
			t.Errorf("%+v", l)
		}
		mustTalk(t, dial(t, l.Address))
		got := maps.Collect(stats(t, s, l.Name).All())
		want := map[string]int64{
			"downstream_cx_total": 1, "downstream_cx_active": 1, "downstream_cx_overflow": 0,
			"no_filter_chain_match": 0, "proxy_proto.denied": 0,
			"downstream_pre_cx_active": 0, "downstream_pre_cx_timeout": 0,
			"downstream_listener_filter_error": 0, "downstream_listener_filter_remote_close": 0,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	if diff := cmp.Diff([]string{"127.0.0.1:0", "127.0.0.2:0"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOneAddressTwice(t *testing.T) {
	t.Parallel()
	address := free(t)
	s := newSet(t, listen.Config{Strict: true})
	first, second := specAt(address), specAt(address)
	first.Name, second.Name = "first", "second"
	_, err := s.Prepare([]*listen.Spec{first, second})
	if err == nil || !strings.Contains(err.Error(), `"first"`) || !strings.Contains(err.Error(), `"second"`) {
		t.Errorf("%v", err)
	}
	mustBeFree(t, address)
}

// A Prepare that fails leaves no socket behind, nor does one that is given up.
func TestPrepareOnly(t *testing.T) {
	t.Parallel()
	t.Run("failed", func(t *testing.T) {
		t.Parallel()
		good := free(t)
		bad, _ := taken(t)
		s := newSet(t, listen.Config{Strict: true})
		if _, err := s.Prepare([]*listen.Spec{specAt(good), specAt(bad)}); err == nil || !strings.Contains(err.Error(), bad.String()) {
			t.Errorf("%v", err)
		}
		mustBeFree(t, good)
		commit(t, s, specAt(good, chain(&echo{})))
		mustTalk(t, dial(t, good.String()))
	})
	t.Run("failed after one that was given up", func(t *testing.T) {
		t.Parallel()
		good := free(t)
		bad, _ := taken(t)
		s := newSet(t, listen.Config{Strict: true})
		if _, err := s.Prepare([]*listen.Spec{specAt(good)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prepare([]*listen.Spec{specAt(good), specAt(bad)}); err == nil {
			t.Error("no error")
		}
		mustBeFree(t, good)
	})
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		first, second := free(t), free(t)
		s := newSet(t, listen.Config{Strict: true})
		if _, err := s.Prepare([]*listen.Spec{specAt(first)}); err != nil {
			t.Fatal(err)
		}
		if len(s.Stats()) != 0 {
			t.Error("a listener before its commit")
		}
		commit(t, s, specAt(second, chain(&echo{})))
		mustBeFree(t, first)
		mustTalk(t, dial(t, second.String()))
	})
	t.Run("given up, then wanted", func(t *testing.T) {
		t.Parallel()
		address := free(t)
		s := newSet(t, listen.Config{Strict: true})
		if _, err := s.Prepare([]*listen.Spec{specAt(address)}); err != nil {
			t.Fatal(err)
		}
		commit(t, s, specAt(address, chain(&echo{})))
		mustTalk(t, dial(t, address.String()))
	})
	t.Run("shut down before the commit", func(t *testing.T) {
		t.Parallel()
		address := free(t)
		s := newSet(t, listen.Config{Strict: true})
		done, err := s.Prepare([]*listen.Spec{specAt(address)})
		if err != nil {
			t.Fatal(err)
		}
		shutdown(s)
		done()
		mustBeFree(t, address)
		if _, err := s.Prepare(nil); err == nil {
			t.Error("prepared after the shutdown")
		}
	})
}

// What cannot be bound is tried again, unless the set is strict.
func TestBindLater(t *testing.T) {
	t.Parallel()
	address, other := taken(t)
	if _, err := listen.NewSet(listen.Config{Strict: true}, slog.New(slog.DiscardHandler)).Prepare([]*listen.Spec{specAt(address)}); err == nil {
		t.Error("strict: no error")
	}
	s := newSet(t, listen.Config{}, specAt(address, chain(&echo{})), spec("127.0.0.1", chain(&echo{})))
	if l := stats(t, s, address.String()); l.Bound || l.Address != address.String() {
		t.Errorf("%+v", l)
	}
	mustTalk(t, dial(t, stats(t, s, "127.0.0.1:0").Address))
	other.Close()
	eventually(t, "bound at last", func() bool { return stats(t, s, address.String()).Bound })
	mustTalk(t, dial(t, address.String()))

	// One that is never bound ends, too.
	hopeless, _ := taken(t)
	commit(t, s, specAt(hopeless))
	commit(t, s)
	if len(s.Stats()) != 0 {
		t.Errorf("%+v", s.Stats())
	}
}

// An update that names the same address keeps the socket, and one that names the
// same chain its connections.
func TestUpdate(t *testing.T) {
	t.Parallel()
	first := chain(&echo{polite: true})
	s := newSet(t, listen.Config{}, spec("127.0.0.1", first))
	address := only(t, s).Address
	conn := dial(t, address)
	mustTalk(t, conn)

	commit(t, s, spec("127.0.0.1", first))
	mustTalk(t, conn)
	if got := only(t, s); got.Address != address || got.Accepted != 1 || got.Active != 1 {
		t.Errorf("%+v", got)
	}

	second := &echo{polite: true}
	commit(t, s, spec("127.0.0.1", chain(second)))
	mustBeClosed(t, conn)
	next := dial(t, address)
	mustTalk(t, next)
	if second.served.Load() != 1 {
		t.Error("not served by the new chain")
	}

	commit(t, s, spec("127.0.0.2", second.chain()))
	mustBeClosed(t, next)
	if _, err := tryDial(address); err == nil {
		t.Error("a listener that is gone accepts")
	}
}

func (e *echo) chain() *listen.Chain { return chain(e) }

// A chain may move to another address and keep its connections.
func TestChainMoves(t *testing.T) {
	t.Parallel()
	c := chain(&echo{polite: true})
	s := newSet(t, listen.Config{}, spec("127.0.0.1", c))
	conn := dial(t, only(t, s).Address)
	mustTalk(t, conn)
	commit(t, s, spec("127.0.0.2", c))
	mustTalk(t, conn)
	mustTalk(t, dial(t, only(t, s).Address))
}

// Connections of a chain that is gone end at the latest after ChainDrain.
func TestChainDrain(t *testing.T) {
	t.Parallel()
	s := newSet(t, listen.Config{ChainDrain: 50 * time.Millisecond}, spec("127.0.0.1", chain(&echo{})))
	address := only(t, s).Address
	conn := dial(t, address)
	mustTalk(t, conn)
	commit(t, s, spec("127.0.0.1", chain(&echo{})))
	mustBeClosed(t, conn)
	mustTalk(t, dial(t, address))
}

// Chains are swapped and swapped while clients come: none is turned away.
func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSet(t, listen.Config{}, spec("127.0.0.1", chain(&echo{})))
	address := only(t, s).Address
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tryDial(address)
				if err == nil {
					err = errors.Join(talk(conn), conn.Close())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		commit(t, s, spec("127.0.0.1", chain(&echo{})))
	}
	close(stop)
	clients.Wait()
}

func socketAt(path string) mesh.Address { return mesh.Address{Socket: path} }

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, listen.Config{Strict: true})
	h := &echo{}
	address := mesh.Address{Socket: path, Mode: 0o640}
	if _, err := s.Prepare([]*listen.Spec{specAt(address)}); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("a living socket was taken over: %v", err)
	}
	if unix, ok := old.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	old.Close()
	commit(t, s, specAt(address, chain(h)))
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	mustTalk(t, dial(t, path))
	if _, peer := h.seen(); peer.Addr.IsValid() {
		t.Errorf("peer %v", peer.Addr)
	}
	if got := only(t, s).Address; got != path {
		t.Errorf("address %q", got)
	}
	commit(t, s)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestUnixSocketInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir, filepath.Join(dir, "none", "s"), filepath.Join(dir, strings.Repeat("x", 200))} {
		s := listen.NewSet(listen.Config{Strict: true}, slog.New(slog.DiscardHandler))
		if _, err := s.Prepare([]*listen.Spec{specAt(socketAt(path))}); err == nil {
			t.Errorf("%s: bound", path)
		}
	}
	if b, err := os.ReadFile(link); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}
