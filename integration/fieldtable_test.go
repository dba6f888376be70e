package integration_test

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	nouns "github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds/golden"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/integration/harness"
)

var update = flag.Bool("update", false, "write generated files anew")

// fieldTable is the generated part of the documentation of xDS.
const fieldTable = "docs/xds.md"

// TestFieldTable holds docs/xds.md to what the decoders do. For each field of each message that occurs in Consul's
// golden files, which is what a property-override patch can reach, it sets the field to a few values in some of those
// files, and looks at what became of it: a refusal, a note in the log, other nouns, or nothing.
//
//	go test ./integration -run TestFieldTable -update
func TestFieldTable(t *testing.T) { // not parallel: what is compiled has bounds of time and memory, which others would use up
	files, err := golden.Files(t.Context())
	if err != nil {
		harness.Skip(t, "Consul's golden files are not there (make tools fetches them): "+err.Error())
	}
	ca := newAuthority(t)
	cert, key := ca.leaf(t, "spiffe://test.consul/ns/default/dc/dc1/svc/x")
	p := &prober{
		reader: resource.Reader{Secrets: &oneSecret{nouns.Leaf{CertificatePEM: string(cert), KeyPEM: string(key)}, ca.pem()}},
		places: map[protoreflect.FullName][]*place{}, seen: map[protoreflect.FullName][]protoreflect.Value{},
		kinds: map[protoreflect.FullName][]protoreflect.Message{},
	}
	for _, f := range files {
		all, err := f.Resources()
		must(t, err)
		for _, r := range all {
			p.visit(t, r)
		}
	}
	text := p.document(t)
	file := filepath.Join(moduleRoot(t), fieldTable)
	if *update {
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	old, err := os.ReadFile(file)
	must(t, err)
	if string(old) != text {
		t.Errorf("%s is not current: go test ./integration -run TestFieldTable -update\n%s", fieldTable,
			cmp.Diff(strings.Split(string(old), "\n"), strings.Split(text, "\n")))
	}
}

// oneSecret is what every reference refers to.
type oneSecret struct {
	leaf  nouns.Leaf
	roots string
}

func (s *oneSecret) Text(nouns.Data) (string, error)          { return s.roots, nil }
func (s *oneSecret) Leaf(_, _ nouns.Data) (nouns.Leaf, error) { return s.leaf, nil }
func (s *oneSecret) Secret(ref nouns.SecretRef, _ nouns.Wait) (body []byte, _ error) {
	return nil, fmt.Errorf("no %s", ref.Name)
}

// fate is what became of a value.
type fate uint8

const (
	unmoved fate = iota
	toldOf
	refusedOf
	honoured
)

// place is a message in a resource.
type place struct {
	resource proto.Message
	typ      string
	path     []step
	around   string // by which it is told from places like it
	base     *reading
}

// step goes from a message into one of its own.
type step struct {
	field protoreflect.FieldDescriptor // nil: into the Any
	index int                          // in a list
	key   protoreflect.MapKey
}

// reading is what the decoder and the compiler make of a resource.
type reading struct {
	noun     any
	refusals []string
	notes    []string
}

type prober struct {
	reader resource.Reader
	places map[protoreflect.FullName][]*place
	seen   map[protoreflect.FullName][]protoreflect.Value   // values of fields, as the files have them
	kinds  map[protoreflect.FullName][]protoreflect.Message // messages of a kind, wherever they stand
}

// Enough to meet the different surroundings of a message, and different values of a field.
const (
	placesPerMessage = 8
	valuesPerField   = 3
)

// visit finds the messages of a resource that the proxy serves whole.
func (p *prober) visit(t *testing.T, r *anypb.Any) {
	t.Helper()
	msg, err := r.UnmarshalNew()
	must(t, err)
	base := p.read(t, msg, r.GetTypeUrl())
	if base == nil || len(base.refusals) > 0 {
		return
	}
	p.walk(msg.ProtoReflect(), nil, func(at protoreflect.Message, path []step) {
		name := at.Descriptor().FullName()
		if all := p.kinds[name]; len(all) < valuesPerField && !slices.ContainsFunc(all, func(old protoreflect.Message) bool { return proto.Equal(old.Interface(), at.Interface()) }) {
			p.kinds[name] = append(all, at)
		}
		inOrder(at, func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if all := p.seen[field.FullName()]; len(all) < valuesPerField && !slices.ContainsFunc(all, v.Equal) {
				p.seen[field.FullName()] = append(all, v)
			}
			return true
		})
		if strings.HasPrefix(string(name), "google.protobuf.") || len(p.places[name]) >= placesPerMessage {
			return
		}
		around := trail(path) + " " + fieldsOf(at)
		if slices.ContainsFunc(p.places[name], func(old *place) bool { return old.around == around }) {
			return // one of a kind is enough
		}
		p.places[name] = append(p.places[name], &place{around: around, resource: msg, typ: r.GetTypeUrl(), path: slices.Clone(path), base: base})
	})
}

// fieldsOf names the fields that are set.
func fieldsOf(m protoreflect.Message) string {
	var names []string
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		names = append(names, string(field.Name()))
		return true
	})
	slices.Sort(names)
	return strings.Join(names, " ")
}

// trail is the path by names.
func trail(path []step) string {
	var out strings.Builder
	for _, s := range path {
		if s.field != nil {
			out.WriteString("/" + string(s.field.Name()))
		}
	}
	return out.String()
}

func (p *prober) walk(at protoreflect.Message, path []step, found func(protoreflect.Message, []step)) {
	if packed, ok := at.Interface().(*anypb.Any); ok {
		if inside, err := packed.UnmarshalNew(); err == nil {
			p.walk(inside.ProtoReflect(), append(path, step{}), found)
		}
		return
	}
	found(at, path)
	inOrder(at, func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
					p.walk(v.Message(), append(path, step{field: field, key: key}), found)
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				p.walk(v.List().Get(i).Message(), append(path, step{field: field, index: i}), found)
			}
		default:
			p.walk(v.Message(), append(path, step{field: field}), found)
		}
		return true
	})
}

// change changes the message at the end of a path.
func change(at protoreflect.Message, path []step, f func(protoreflect.Message)) {
	if len(path) == 0 {
		f(at)
		return
	}
	s := path[0]
	switch {
	case s.field == nil:
		packed, _ := at.Interface().(*anypb.Any)
		inside, err := packed.UnmarshalNew()
		if err != nil {
			return
		}
		change(inside.ProtoReflect(), path[1:], f)
		if again, err := golden.Any(inside); err == nil {
			packed.Value = again.GetValue()
		}
	case s.field.IsMap():
		change(at.Mutable(s.field).Map().Mutable(s.key).Message(), path[1:], f)
	case s.field.IsList():
		change(at.Mutable(s.field).List().Get(s.index).Message(), path[1:], f)
	default:
		change(at.Mutable(s.field).Message(), path[1:], f)
	}
}

// read decodes and compiles; nil if it does not decode.
func (p *prober) read(t *testing.T, msg proto.Message, typ string) *reading {
	t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return nil
	}
	next := &nouns.Snapshot{Listeners: map[string]*nouns.Listener{}, Routes: map[string]*nouns.Route{}, Clusters: map[string]*nouns.Cluster{}}
	out := &reading{}
	switch typ {
	case resource.ListenerType:
		var l *nouns.Listener
		if l, out.notes, err = p.reader.Listener(body); err == nil {
			out.noun, next.Listeners[l.Name] = l, l
		}
	case resource.RouteType:
		var r *nouns.Route
		if r, out.notes, err = resource.Route(body); err == nil {
			out.noun, next.Routes[r.Name] = r, r
			next.Listeners[r.Name] = &nouns.Listener{Name: r.Name, Chains: []*nouns.FilterChain{{HTTP: &nouns.HTTP{RouteName: r.Name}}}}
		}
	case resource.ClusterType:
		var c *nouns.Cluster
		if c, out.notes, err = p.reader.Cluster(body); err == nil {
			out.noun, next.Clusters[c.Name] = c, c
		}
	case resource.EndpointsType:
		out.noun, out.notes, err = resource.Endpoints(body)
	}
	if err != nil {
		return nil
	}
	for _, r := range proxy.Check(next, slog.New(slog.DiscardHandler)) {
		out.refusals = append(out.refusals, r.Reason)
	}
	return out
}

// probe sets a field at a place to a value.
func (p *prober) probe(t *testing.T, at *place, set func(protoreflect.Message)) fate {
	t.Helper()
	msg := proto.Clone(at.resource)
	change(msg.ProtoReflect(), at.path, set)
	got := p.read(t, msg, at.typ)
	isNew := func(old []string) func(string) bool {
		return func(s string) bool { return !slices.Contains(old, s) }
	}
	switch {
	case got == nil:
		return refusedOf
	case slices.ContainsFunc(got.refusals, isNew(at.base.refusals)):
		return refusedOf
	case slices.ContainsFunc(got.notes, isNew(at.base.notes)):
		return toldOf
	case !reflect.DeepEqual(got.noun, at.base.noun):
		return honoured
	default:
		return unmoved
	}
}

// values are ways to set a field.
func (p *prober) values(field protoreflect.FieldDescriptor, depth int) []func(protoreflect.Message) {
	var all []func(protoreflect.Message)
	scalar := func(vs ...protoreflect.Value) {
		for _, v := range vs {
			all = append(all, func(m protoreflect.Message) {
				switch {
				case field.IsList():
					m.Mutable(field).List().Append(v)
				case !field.IsMap():
					m.Set(field, v)
				}
			})
		}
	}
	switch {
	case field.IsMap():
		return append(all, func(m protoreflect.Message) {
			entries := m.Mutable(field).Map()
			v := entries.NewValue()
			if field.MapValue().Message() == nil {
				v = scalarOf(field.MapValue(), 0)
			}
			entries.Set(scalarOf(field.MapKey(), 0).MapKey(), v)
		})
	case field.Message() != nil:
		return p.messages(field, depth)
	case field.Kind() == protoreflect.EnumKind:
		for i := range field.Enum().Values().Len() {
			if depth > 0 && i > 2 {
				break
			}
			scalar(protoreflect.ValueOfEnum(field.Enum().Values().Get(i).Number()))
		}
	default:
		for i := range 3 - 2*min(depth, 1) {
			scalar(scalarOf(field, i))
		}
	}
	return all
}

// messages are ways to set a field that is a message: an empty one, and one with one field each; within another one, one that
// is as the files have it elsewhere.
func (p *prober) messages(field protoreflect.FieldDescriptor, depth int) []func(protoreflect.Message) {
	make := func(fill func(protoreflect.Message)) func(protoreflect.Message) {
		return func(m protoreflect.Message) {
			if field.IsList() {
				next := m.Mutable(field).List().NewElement()
				fill(next.Message())
				m.Mutable(field).List().Append(next)
				return
			}
			next := m.NewField(field)
			fill(next.Message())
			m.Set(field, next)
		}
	}
	all := []func(protoreflect.Message){make(func(protoreflect.Message) {})}
	if depth > 0 {
		for _, at := range p.places[field.Message().FullName()] {
			var found proto.Message
			change(at.resource.ProtoReflect(), at.path, func(m protoreflect.Message) { found = m.Interface() })
			return append(all, make(func(m protoreflect.Message) { proto.Merge(m.Interface(), found) }))
		}
		return all
	}
	fields := field.Message().Fields()
	for i := range fields.Len() {
		for _, set := range p.values(fields.Get(i), depth+1) {
			all = append(all, make(set))
		}
	}
	return all
}

func scalarOf(field protoreflect.FieldDescriptor, n int) protoreflect.Value {
	numbers, texts := []int{1, 7, 443}, []string{"x", "10.1.2.3", "/a"}
	number := numbers[n]
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n%2 == 0)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(texts[n]))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))
	default:
		return protoreflect.ValueOfString(texts[n])
	}
}

// document writes the table.
func (p *prober) document(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	out.WriteString(fieldTableHead)
	for _, name := range slices.Sorted(maps.Keys(p.places)) {
		places := p.places[name]
		by := map[fate][]string{}
		fields := p.message(t, places[0]).Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			fates := map[fate]bool{}
			for _, set := range slices.Concat(p.found(field), p.values(field, 0), setGiven(t, field)) {
				for _, at := range places {
					fates[p.probe(t, at, set)] = true
				}
			}
			// Its value may be the one that it has anyhow, so a change says most.
			best := unmoved
			switch {
			case fates[honoured]:
				best = honoured
			case fates[refusedOf]:
				best = refusedOf
			case fates[toldOf]:
				best = toldOf
			}
			text := string(field.Name())
			if best == honoured && (fates[refusedOf] || fates[toldOf]) {
				text += "\\*"
			}
			by[best] = append(by[best], text)
		}
		short := strings.TrimPrefix(string(name), "envoy.")
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", short,
			strings.Join(by[honoured], " "), strings.Join(by[toldOf], " "), strings.Join(by[refusedOf], " "), strings.Join(by[unmoved], " "))
	}
	return out.String()
}

// message is the message at a place.
func (p *prober) message(t *testing.T, at *place) protoreflect.Message {
	t.Helper()
	var found protoreflect.Message
	change(proto.Clone(at.resource).ProtoReflect(), at.path, func(m protoreflect.Message) { found = m })
	if found == nil {
		t.Fatalf("no message at %v", at.path)
	}
	return found
}

const fieldTableHead = `# What becomes of each field of xDS

Generated by ` + "`go test ./integration -run TestFieldTable -update`" + `, and held current by the same test: each field of each message that
occurs in the golden files of Consul's own tests (hence each that a property-override patch can reach) is set to a few
values there, left out, and set to what it, or another field of its type, is elsewhere in them (and to what the test gives for some
extensions), and it is looked at what the decoder and the compiler make of that.

- **honoured**: the configuration in force changes. With a \*, some values are refused or ignored (loudly).
- **ignored, told**: nothing changes, and the log says so, once.
- **refused**: the chain, filter, route or cluster refuses its traffic, and log, metric and admin interface say why.
- **nothing hangs on it**: names for statistics, what is so anyhow, and what has a meaning only beside another field.

| message (envoy.*) | honoured | ignored, told | refused | nothing hangs on it |
|---|---|---|---|---|
`
