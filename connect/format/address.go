package format

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// side finds one address of the exchange; invalid if it is not known.
type side func(in *Input) netip.AddrPort

// addressOperator is base_ADDRESS, base_ADDRESS_WITHOUT_PORT and base_PORT.
func addressOperator(name, base string, of side) (definition, bool) {
	suffix, ok := strings.CutPrefix(name, base)
	if !ok {
		return definition{}, false
	}
	switch suffix {
	case "_ADDRESS":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) {
			if a := of(in); a.IsValid() {
				return a.AppendTo(dst), text
			}
			return dst, absent
		})
	case "_ADDRESS_WITHOUT_PORT":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) {
			if a := of(in); a.IsValid() {
				return a.Addr().AppendTo(dst), text
			}
			return dst, absent
		})
	case "_PORT":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) {
			if a := of(in); a.IsValid() {
				return strconv.AppendUint(dst, uint64(a.Port()), 10), number
			}
			return dst, absent
		})
	}
	return definition{}, false
}

// downstreamOperator are those of the client's connection.
func downstreamOperator(name string) (definition, bool) {
	for base, of := range map[string]side{
		"DOWNSTREAM_REMOTE":        func(in *Input) netip.AddrPort { return in.Exchange.Client() },
		"DOWNSTREAM_DIRECT_REMOTE": func(in *Input) netip.AddrPort { return in.Exchange.Peer.Addr },
		"DOWNSTREAM_LOCAL":         func(in *Input) netip.AddrPort { return in.Exchange.Peer.Local },
		"DOWNSTREAM_DIRECT_LOCAL":  func(in *Input) netip.AddrPort { return in.Exchange.Peer.Local },
	} {
		if d, ok := addressOperator(name, base, of); ok {
			return d, true
		}
	}
	switch name {
	case "CONNECTION_ID":
		return plainly(count(func(in *Input) int64 { return int64(in.Exchange.Peer.Number) })) //nolint:gosec // it counts up from 1
	case "REQUESTED_SERVER_NAME":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) {
			if name := in.Exchange.Peer.ServerName; name != "" {
				return appendHost(dst, name), text
			}
			return dst, absent
		})
	case "FILTER_CHAIN_NAME":
		return plainly(word(func(in *Input) string { return in.Chain }))
	case "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT":
		return never()
	}
	switch rest, ok := strings.CutPrefix(name, "DOWNSTREAM_"); {
	case !ok:
	case strings.HasPrefix(rest, "WIRE_BYTES_"), strings.HasPrefix(rest, "HEADER_BYTES_"), strings.HasPrefix(rest, "DECOMPRESSED_HEADER_BYTES_"):
		return bytesOperator(rest)
	}
	return definition{}, false
}

// bytesOperator counts what stood on the wire below HTTP as far as we see it: the
// head's fields and the body, without what frames them.
func bytesOperator(name string) (definition, bool) {
	received := func(in *Input) int64 { return requestBytes(in.request()) }
	sent := func(in *Input) int64 { return responseBytes(in.response()) }
	switch name {
	case "HEADER_BYTES_RECEIVED", "DECOMPRESSED_HEADER_BYTES_RECEIVED":
		return plainly(count(received))
	case "HEADER_BYTES_SENT", "DECOMPRESSED_HEADER_BYTES_SENT":
		return plainly(count(sent))
	case "WIRE_BYTES_RECEIVED":
		return plainly(count(func(in *Input) int64 { return received(in) + in.Exchange.BytesIn }))
	case "WIRE_BYTES_SENT":
		return plainly(count(func(in *Input) int64 { return sent(in) + in.Exchange.BytesOut }))
	}
	return definition{}, false
}

// appendHost appends the name of a host. A client may write anything into its
// ClientHello: what no such name has is an underscore, and that there was any is said in
// front, as Envoy does.
func appendHost(dst []byte, name string) []byte {
	const invalid = "invalid:"
	start := len(dst)
	dst = append(append(dst, invalid...), name...)
	bad := false
	for i, c := range dst[start+len(invalid):] {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.':
		default:
			dst[start+len(invalid)+i], bad = '_', true
		}
	}
	if !bad {
		return append(dst[:start], name...)
	}
	return dst
}

// upstreamOperator are those of the last try upstream.
func upstreamOperator(name string) (definition, bool) {
	if base, ok := strings.CutPrefix(name, "UPSTREAM_"); ok {
		if d, ok := upstreamBytes(base); ok {
			return d, true
		}
	}
	if d, ok := addressOperator(name, "UPSTREAM_LOCAL", func(in *Input) netip.AddrPort {
		if p := in.upstream(); p != nil {
			return p.Local
		}
		return netip.AddrPort{}
	}); ok {
		return d, true
	}
	switch name {
	case "UPSTREAM_HOST":
		return plainly(word(endpoint))
	case "UPSTREAM_REMOTE_ADDRESS":
		return plainly(word(remote))
	case "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
		return plainly(word(func(in *Input) string { host, _ := hostPort(remote(in)); return host }))
	case "UPSTREAM_REMOTE_PORT":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) {
			_, port := hostPort(remote(in))
			dst, k := appendWord(dst, port)
			if k == text {
				k = number
			}
			return dst, k
		})
	case "UPSTREAM_CLUSTER":
		return plainly(word(func(in *Input) string {
			if in.Exchange.Flag == wire.FlagNoCluster {
				return "" // there is only a name
			}
			return cmp.Or(in.Exchange.Observed, in.Exchange.Cluster)
		}))
	case "UPSTREAM_CLUSTER_RAW":
		return plainly(word(func(in *Input) string {
			if in.Exchange.Flag == wire.FlagNoCluster {
				return ""
			}
			return in.Exchange.Cluster
		}))
	case "UPSTREAM_TRANSPORT_FAILURE_REASON":
		return plainly(word(func(in *Input) string {
			if a := in.attempt(); a != nil {
				return a.Failure
			}
			return ""
		}))
	case "UPSTREAM_REQUEST_ATTEMPT_COUNT":
		return plainly(count(func(in *Input) int64 { return int64(in.Exchange.Tries) }))
	case "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAME_WITHOUT_PORT":
		return plainly(word(func(in *Input) string {
			host := endpoint(in)
			if a := in.attempt(); a != nil {
				host = cmp.Or(a.HostName, host)
			}
			if name == "UPSTREAM_HOST_NAME_WITHOUT_PORT" {
				host, _ = hostPort(host)
			}
			return host
		}))
	case "UPSTREAM_PROTOCOL":
		return plainly(word(func(in *Input) string {
			if a := in.attempt(); a != nil && a.Proto > 0 {
				return protocol(&wire.Request{Proto: a.Proto, Minor: 1})
			}
			return ""
		}))
	case "UPSTREAM_CONNECTION_ID":
		return plainly(count(func(in *Input) int64 {
			if p := in.upstream(); p != nil {
				return int64(p.Number) //nolint:gosec // it counts up from 1
			}
			return 0
		}))
	}
	return definition{}, false
}

func upstreamBytes(name string) (definition, bool) {
	tried := func(of func(x *wire.Exchange) int64) (definition, bool) {
		return plainly(count(func(in *Input) int64 {
			if in.attempt() == nil || in.attempt().Head.IsZero() {
				return 0
			}
			return of(in.Exchange)
		}))
	}
	switch name {
	case "WIRE_BYTES_SENT":
		return tried(func(x *wire.Exchange) int64 { return requestBytes(x.Request) + x.BytesIn })
	case "WIRE_BYTES_RECEIVED":
		return tried(func(x *wire.Exchange) int64 { return responseBytes(x.Response) + x.BytesOut })
	case "HEADER_BYTES_SENT", "DECOMPRESSED_HEADER_BYTES_SENT":
		return tried(func(x *wire.Exchange) int64 { return requestBytes(x.Request) })
	case "HEADER_BYTES_RECEIVED", "DECOMPRESSED_HEADER_BYTES_RECEIVED":
		return tried(func(x *wire.Exchange) int64 { return responseBytes(x.Response) })
	}
	return definition{}, false
}

func endpoint(in *Input) string {
	if a := in.attempt(); a != nil {
		return a.Endpoint
	}
	return ""
}

// remote is the endpoint if there was a connection to it.
func remote(in *Input) string {
	if in.upstream() == nil {
		return ""
	}
	return endpoint(in)
}

// hostPort splits an address; that of a unix socket has no port.
func hostPort(address string) (host, port string) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 || strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@") {
		return address, ""
	}
	return strings.Trim(address[:i], "[]"), address[i+1:]
}
