package proxy

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// describeChain tells for whom a chain is, in the order in which its match counts.
func describeChain(m *mesh.ChainMatch) string {
	var parts []string
	add := func(what, value string) { parts = append(parts, what+" "+value) }
	if m.DestinationPort != 0 {
		add("port", fmt.Sprint(m.DestinationPort))
	}
	if len(m.Prefixes) > 0 {
		add("to", joined(m.Prefixes))
	}
	if len(m.ServerNames) > 0 {
		add("server name", joined(m.ServerNames))
	}
	switch m.Transport {
	case "":
	case mesh.TransportTLS:
		parts = append(parts, "TLS")
	default:
		parts = append(parts, "no TLS")
	}
	if len(m.ALPN) > 0 {
		add("ALPN", joined(m.ALPN))
	}
	if len(m.DirectSourcePrefixes) > 0 {
		add("by", joined(m.DirectSourcePrefixes))
	}
	switch m.SourceType {
	case mesh.AnySource:
	case mesh.LocalSource:
		parts = append(parts, "from this machine")
	case mesh.ExternalSource:
		parts = append(parts, "from other machines")
	}
	if len(m.SourcePrefixes) > 0 {
		add("from", joined(m.SourcePrefixes))
	}
	if len(m.SourcePorts) > 0 {
		add("from port", joined(m.SourcePorts))
	}
	if len(parts) == 0 {
		return "every connection"
	}
	return strings.Join(parts, ", ")
}

func joined[T any](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = fmt.Sprint(one)
	}
	return strings.Join(texts, " or ")
}
