package trace

import (
	"encoding/binary"
	"math"
	"slices"
)

// traces groups spans by their trace.
func traces(spans []*span) [][]*span {
	var all [][]*span
	for _, s := range spans {
		i := slices.IndexFunc(all, func(t []*span) bool { return t[0].Trace == s.Trace })
		if i < 0 {
			all = append(all, []*span{s})
		} else {
			all[i] = append(all[i], s)
		}
	}
	return all
}

// The tag that says who has decided on sampling: here, it is nobody but the default.
const decisionTag, decidedHere = "_dd.p.dm", "-0"

// appendDatadog appends spans as version 0.4 of the agent's API has them: a list of
// traces, each a list of spans, in MessagePack. Only what is written here is needed
// of that, which is less than a library.
func appendDatadog(b []byte, service string, spans []*span) []byte {
	all := traces(spans)
	b = appendArray(b, len(all))
	for _, trace := range all {
		b = appendArray(b, len(trace))
		for _, s := range trace {
			b = appendDatadogSpan(b, service, s)
		}
	}
	return b
}

func appendDatadogSpan(b []byte, service string, s *span) []byte {
	failed := int64(0)
	if s.failed {
		failed = 1
	}
	b = append(b, 0x80|12) // a map of so many members
	b = appendText(appendText(b, "service"), service)
	b = appendText(appendText(b, "name"), "envoy.proxy")
	b = appendText(appendText(b, "resource"), s.name)
	b = appendText(appendText(b, "type"), "web") // as the library that Envoy uses has it
	b = appendUint(appendText(b, "trace_id"), s.low())
	b = appendUint(appendText(b, "span_id"), s.Span)
	b = appendUint(appendText(b, "parent_id"), s.Parent)
	b = appendInt(appendText(b, "start"), s.begin.UnixNano())
	b = appendInt(appendText(b, "duration"), max(0, s.took.Nanoseconds()))
	b = appendInt(appendText(b, "error"), failed)
	b = appendText(b, "meta")
	tags := slices.DeleteFunc(slices.Clone(s.tags), func(t tag) bool { return t.name == "error" }) // told above
	if s.Parent == 0 {
		tags = append(tags, tag{decisionTag, decidedHere})
	}
	if s.high() != 0 {
		tags = append(tags, tag{"_dd.p.tid", hex16(s.high())})
	}
	kind := "server"
	if s.client {
		kind = "client"
	}
	tags = append(tags, tag{"span.kind", kind})
	b = binary.BigEndian.AppendUint16(append(b, 0xde), uint16(len(tags))) //nolint:gosec // a few dozen
	for _, t := range tags {
		b = appendText(appendText(b, t.name), t.value)
	}
	b = append(appendText(b, "metrics"), 0x81)
	return binary.BigEndian.AppendUint64(append(appendText(b, "_sampling_priority_v1"), 0xcb), math.Float64bits(1))
}

func appendArray(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n)) //nolint:gosec // bounded by maxSpans
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(len(s))) //nolint:gosec // of a head, which is bounded
	return append(b, s...)
}

func appendUint(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(append(b, 0xcf), n) }

func appendInt(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n)) //nolint:gosec // the same bits
}
