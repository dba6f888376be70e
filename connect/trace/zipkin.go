package trace

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
)

// zipkinSpan is a span as version 2 of Zipkin's API has it
// (https://zipkin.io/zipkin-api/#/).
type zipkinSpan struct {
	TraceID       string            `json:"traceId"`
	ParentID      string            `json:"parentId,omitempty"`
	ID            string            `json:"id"`
	Kind          string            `json:"kind"`
	Name          string            `json:"name"`
	Timestamp     int64             `json:"timestamp"`
	Duration      int64             `json:"duration"`
	LocalEndpoint zipkinEndpoint    `json:"localEndpoint"`
	Annotations   []zipkinNote      `json:"annotations,omitempty"`
	Tags          map[string]string `json:"tags"`
	Shared        bool              `json:"shared,omitempty"`
}

type zipkinNote struct {
	Timestamp int64  `json:"timestamp"`
	Value     string `json:"value"`
}

type zipkinEndpoint struct {
	ServiceName string `json:"serviceName"`
	IPv4        string `json:"ipv4,omitempty"`
	IPv6        string `json:"ipv6,omitempty"`
	Port        uint16 `json:"port,omitempty"`
}

func zipkinJSON(service string, spans []*span) ([]byte, error) {
	all := make([]zipkinSpan, 0, len(spans))
	for _, s := range spans {
		z := zipkinSpan{
			TraceID: s.id(), ID: hex16(s.Span), Kind: "SERVER", Name: s.name, Timestamp: s.begin.UnixMicro(), Duration: max(1, s.took.Microseconds()),
			LocalEndpoint: zipkinEndpoint{ServiceName: service, Port: s.port}, Tags: map[string]string{}, Shared: s.shared,
		}
		if s.Parent != 0 {
			z.ParentID = hex16(s.Parent)
		}
		if s.client {
			z.Kind = "CLIENT"
		}
		if ip, err := netip.ParseAddr(s.host); err == nil && ip.Is4() {
			z.LocalEndpoint.IPv4 = s.host
		} else if err == nil {
			z.LocalEndpoint.IPv6 = s.host
		}
		for _, n := range s.notes {
			z.Annotations = append(z.Annotations, zipkinNote{n.at.UnixMicro(), n.what})
		}
		for _, t := range s.tags {
			z.Tags[t.name] = t.value
		}
		all = append(all, z)
	}
	return json.Marshal(all)
}

// appendZipkinProto appends a ListOfSpans (zipkin-api/zipkin.proto). The message is
// small and does not change, so that no generated code is needed for it.
func appendZipkinProto(b []byte, service string, spans []*span) []byte {
	for _, s := range spans {
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, zipkinProto(service, s))
	}
	return b
}

func zipkinProto(service string, s *span) []byte {
	var b []byte
	bytes := func(field protowire.Number, value []byte) {
		b = protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
	}
	id := s.Trace[:]
	if s.high() == 0 {
		id = s.Trace[8:]
	}
	bytes(1, id)
	if s.Parent != 0 {
		bytes(2, binary.BigEndian.AppendUint64(nil, s.Parent))
	}
	bytes(3, binary.BigEndian.AppendUint64(nil, s.Span))
	kind := uint64(2) // SERVER
	if s.client {
		kind = 1
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), kind)
	bytes(5, []byte(s.name))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 6, protowire.Fixed64Type), uint64(s.begin.UnixMicro()))         //nolint:gosec // after 1970
	b = protowire.AppendVarint(protowire.AppendTag(b, 7, protowire.VarintType), uint64(max(1, s.took.Microseconds()))) //nolint:gosec // positive
	bytes(8, zipkinEndpointProto(service, s))
	for _, n := range s.notes {
		entry := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), uint64(n.at.UnixMicro())) //nolint:gosec // after 1970
		bytes(10, protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), n.what))
	}
	for _, t := range s.tags {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), t.name)
		entry = protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), t.value)
		bytes(11, entry)
	}
	if s.shared {
		b = protowire.AppendVarint(protowire.AppendTag(b, 13, protowire.VarintType), 1)
	}
	return b
}

func zipkinEndpointProto(service string, s *span) []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	if ip, err := netip.ParseAddr(s.host); err == nil {
		field := protowire.Number(3)
		if ip.Is4() {
			field = 2
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), ip.AsSlice())
	}
	return protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), uint64(s.port))
}
