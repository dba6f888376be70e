package golden

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxDepth bounds how deep a mutation goes, and how deep the messages are that
// it makes.
const maxDepth = 24

// Mutate changes msg as script says, which may be any bytes: it drops, sets,
// doubles and reorders fields, also those of messages packed into an Any. The
// same script changes the same message in the same way; an empty one changes
// nothing.
func Mutate(msg proto.Message, script []byte) {
	m := &mutation{script: script}
	for len(m.script) > 0 {
		m.message(msg.ProtoReflect(), 0)
	}
}

// mutation takes its choices off a script.
type mutation struct{ script []byte }

// choose returns a number below n; 0 when the script is at its end.
func (m *mutation) choose(n int) int {
	if n <= 1 || len(m.script) == 0 {
		return 0
	}
	got := int(m.script[0])
	m.script = m.script[1:]
	if n > 256 && len(m.script) > 0 {
		got = got<<8 | int(m.script[0])
		m.script = m.script[1:]
	}
	return got % n
}

// message goes down into one of the fields that are set, or changes one here.
func (m *mutation) message(at protoreflect.Message, depth int) {
	action := m.choose(4)
	if packed, ok := at.Interface().(*anypb.Any); ok && action != 3 {
		m.packed(packed, depth)
		return
	}
	fields := at.Descriptor().Fields()
	if fields.Len() == 0 {
		m.choose(2) // so that a script ends
		return
	}
	var set []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		if at.Has(fields.Get(i)) {
			set = append(set, fields.Get(i))
		}
	}
	if action < 3 && len(set) > 0 {
		field := set[m.choose(len(set))]
		if action < 2 && depth < maxDepth && m.into(at, field, depth) {
			return
		}
		m.change(at, field, depth)
		return
	}
	m.change(at, fields.Get(m.choose(fields.Len())), depth)
}

// packed changes the message inside.
func (m *mutation) packed(a *anypb.Any, depth int) {
	msg, err := a.UnmarshalNew()
	if err != nil || depth >= maxDepth {
		m.choose(2)
		return
	}
	m.message(msg.ProtoReflect(), depth+1)
	if inside, err := Any(msg); err == nil {
		a.Value = inside.GetValue()
	}
}

// into goes on in a message that field holds, and tells whether there is one.
func (m *mutation) into(at protoreflect.Message, field protoreflect.FieldDescriptor, depth int) bool {
	switch {
	case field.IsMap():
		if field.MapValue().Message() == nil {
			return false
		}
		at.Get(field).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			m.message(v.Message(), depth+1)
			return false
		})
	case field.Message() == nil:
		return false
	case field.IsList():
		list := at.Mutable(field).List()
		m.message(list.Get(m.choose(list.Len())).Message(), depth+1)
	default:
		m.message(at.Mutable(field).Message(), depth+1)
	}
	return true
}

// change drops a field or gives it another value.
func (m *mutation) change(at protoreflect.Message, field protoreflect.FieldDescriptor, depth int) {
	if at.Has(field) && m.choose(3) == 0 {
		at.Clear(field)
		return
	}
	switch {
	case field.IsMap():
		entries := at.Mutable(field).Map()
		value := entries.NewValue()
		if field.MapValue().Message() == nil {
			value = m.scalar(field.MapValue())
		}
		entries.Set(m.scalar(field.MapKey()).MapKey(), value)
	case field.IsList():
		m.list(at.Mutable(field).List(), field)
	case field.Message() != nil:
		next := at.NewField(field)
		if depth < maxDepth {
			m.message(next.Message(), depth+1)
		}
		at.Set(field, next)
	default:
		at.Set(field, m.scalar(field))
	}
}

// list gives a list one element more, a copy or a new one, or turns it around.
func (m *mutation) list(list protoreflect.List, field protoreflect.FieldDescriptor) {
	switch action := m.choose(3); {
	case action == 0 && list.Len() > 0:
		last := list.Get(m.choose(list.Len()))
		if field.Message() != nil {
			last = protoreflect.ValueOfMessage(proto.Clone(last.Message().Interface()).ProtoReflect())
		}
		list.Append(last)
	case action == 1 && list.Len() > 1:
		for i, j := 0, list.Len()-1; i < j; i, j = i+1, j-1 {
			a, b := list.Get(i), list.Get(j)
			list.Set(i, b)
			list.Set(j, a)
		}
	case field.Message() != nil:
		list.Append(list.NewElement())
	default:
		list.Append(m.scalar(field))
	}
}

// scalar is a value at which decoders stumble.
func (m *mutation) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	numbers := []int64{0, 1, -1, 2, 100, 1<<16 - 1, 1 << 16, 1<<31 - 1, -1 << 31, 1 << 62, -1 << 63}
	texts := []string{
		"", "*", "/", "x", "local_app", "*.example.com", ":method", ":path", "(", `\1`, "%REQ(x)%", "%", "127.0.0.1", "::", "\x00", "spiffe://x/y",
		"a.b:80", "^/x(/?)(.*)", "\r\n", "envoy.filters.http.router", "-----BEGIN CERTIFICATE-----\n", "é",
	}
	number := numbers[m.choose(len(numbers))]
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number&1 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(number % 32))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number) / 3)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(texts[m.choose(len(texts))]))
	default:
		return protoreflect.ValueOfString(texts[m.choose(len(texts))])
	}
}
