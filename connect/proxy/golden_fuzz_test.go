package proxy_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds/golden"
	"github.com/serai-net/serai/connect/xds/resource"
)

// specimens are the different resources of the golden files, or few of our own
// where those are not at hand.
func specimens(tb testing.TB) []*anypb.Any {
	tb.Helper()
	files, err := golden.Files(tb.Context())
	if err != nil {
		tb.Skipf("SKIPPED %s: Consul's golden files are not there (make tools fetches them): %v", tb.Name(), err)
	}
	var all []*anypb.Any
	for _, f := range files {
		found, err := f.Resources()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b *anypb.Any) int {
		if by := strings.Compare(a.GetTypeUrl(), b.GetTypeUrl()); by != 0 {
			return by
		}
		return bytes.Compare(a.GetValue(), b.GetValue())
	})
	return slices.CompactFunc(all, func(a, b *anypb.Any) bool { return proto.Equal(a, b) })
}

// survive decodes and compiles what may be anything. It fails by a panic, or if
// what decoded is neither whole nor refused.
func survive(tb testing.TB, r *anypb.Any, outside resource.Secrets) {
	tb.Helper()
	w := &world{reader: resource.Reader{Secrets: outside}, snapshot: &mesh.Snapshot{
		Listeners: map[string]*mesh.Listener{}, Routes: map[string]*mesh.Route{}, Clusters: map[string]*mesh.Cluster{},
	}}
	if err := w.add(r); err != nil {
		return
	}
	for name := range w.snapshot.Routes {
		w.snapshot.Listeners[name] = &mesh.Listener{Name: name, Chains: []*mesh.FilterChain{{HTTP: &mesh.HTTP{RouteName: name}}}}
	}
	for _, l := range w.snapshot.Listeners {
		for _, c := range append(slices.Clone(l.Chains), l.Default) {
			if c != nil && c.Refusal == "" && c.TCP == nil && c.HTTP == nil {
				tb.Errorf("a chain of %q does nothing, and is not refused", l.Name)
			}
		}
	}
	proxy.Check(w.snapshot, discard())
}

// mutated is a specimen after a script.
func mutated(tb testing.TB, of *anypb.Any, script []byte) *anypb.Any {
	tb.Helper()
	msg, err := of.UnmarshalNew()
	if err != nil {
		tb.Fatal(err)
	}
	golden.Mutate(msg, script)
	r, err := golden.Any(msg)
	if err != nil {
		return of // a string that is no UTF-8 cannot come over the wire
	}
	return r
}

// TestGoldenMutated takes every golden resource through a few changes.
func TestGoldenMutated(t *testing.T) {
	t.Parallel()
	outside := newSecrets(t)
	for i, r := range specimens(t) {
		random := rand.New(rand.NewPCG(6, uint64(i)))
		for range 4 {
			script := binary.LittleEndian.AppendUint64(nil, random.Uint64())
			script = binary.LittleEndian.AppendUint64(script, random.Uint64())
			func() {
				defer func() {
					if v := recover(); v != nil {
						t.Errorf("specimen %d of type %s, script %x: panic: %v", i, r.GetTypeUrl(), script, v)
					}
				}()
				survive(t, mutated(t, r, script), outside)
			}()
		}
	}
}

// FuzzResource changes bytes of golden resources.
func FuzzResource(f *testing.F) {
	types := map[string]uint8{}
	var urls []string
	for _, r := range specimens(f) {
		if _, ok := types[r.GetTypeUrl()]; !ok {
			types[r.GetTypeUrl()] = uint8(len(urls))
			urls = append(urls, r.GetTypeUrl())
		}
		f.Add(types[r.GetTypeUrl()], r.GetValue())
	}
	outside := newSecrets(f)
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		survive(t, &anypb.Any{TypeUrl: urls[int(kind)%len(urls)], Value: body}, outside)
	})
}

// FuzzMutated changes fields of golden resources.
func FuzzMutated(f *testing.F) {
	all := specimens(f)
	for i := range all {
		f.Add(uint16(i), []byte{byte(i), 1, 2, 3, 0, 200, 100, 50})
	}
	outside := newSecrets(f)
	f.Fuzz(func(t *testing.T, index uint16, script []byte) {
		survive(t, mutated(t, all[int(index)%len(all)], script[:min(len(script), 256)]), outside)
	})
}

// FuzzSecret reads secrets as an SDS server sends them.
func FuzzSecret(f *testing.F) {
	outside := newSecrets(f)
	secret, err := outside.Secret(mesh.SecretRef{Name: "x"}, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := resource.SecretName(body)
		if used := (resource.Reader{Secrets: outside}).Secret(body); err != nil && used == nil {
			t.Errorf("a secret without a name (%v) could be used", err)
		}
	})
}
