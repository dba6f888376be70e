package telemetry

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/serai-net/serai/connect/wire"
)

// appendJSON appends an exchange or a TCP connection as one JSON object. Times
// are milliseconds. Fields that do not apply are left out; status is 0 where no
// response was sent.
func appendJSON(b []byte, p *Place, x *wire.Exchange) []byte {
	b = append(b, `{"time":"`...)
	b = x.Start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	if isTCP(x) {
		b = append(b, `","protocol":"tcp"`...)
	} else {
		b = append(b, `","status":`...)
		b = strconv.AppendInt(b, int64(x.Status), 10)
	}
	b = appendMember(b, "flag", flagOf(x))
	b = appendMember(b, "method", x.Method)
	b = appendMember(b, "host", x.Authority)
	b = appendMember(b, "path", pathOf(x))
	b = appendMember(b, "listener", p.Listener)
	b = appendMember(b, "direction", string(p.Direction))
	b = appendMember(b, "source", known(p.source(x)))
	b = appendMember(b, "destination", known(p.destination(x)))
	b = appendMember(b, "consumer", x.Consumer)
	b = appendMember(b, "api", x.API)
	b = appendMember(b, "route", x.Route)
	b = appendMember(b, "cluster", x.Cluster)
	b = appendMember(b, "endpoint", endpointOf(x))
	b = append(b, `,"tries":`...)
	b = strconv.AppendInt(b, int64(len(x.Attempts)), 10)
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, x.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, x.BytesOut, 10)
	upstream, proxy := x.Upstream()
	b = append(b, `,"duration_ms":`...)
	b = appendMillis(b, duration(x))
	b = append(b, `,"proxy_ms":`...)
	b = appendMillis(b, proxy)
	b = append(b, `,"upstream_ms":`...)
	b = appendMillis(b, upstream)
	if x.Peer.Addr.IsValid() {
		b = append(b, `,"client":"`...)
		b = x.Peer.Addr.AppendTo(b)
		b = append(b, '"')
	}
	b = appendMember(b, "id", x.ID)
	if x.Err != nil {
		b = appendMember(b, "error", x.Err.Error())
	}
	return append(b, "}\n"...)
}

// appendText appends an exchange as one line for people:
//
//	15:04:05.000 200 -    GET      12.00ms  proxy  1.50ms  upstream  10.00ms  acme       orders/list -> web 10.0.0.1:8080 512B api.example.com/v1 0123456789abcdef
//
// The first time is until the last byte was sent; what is missing to it from the
// other two went into bodies. Behind them stands the consumer, or for a sidecar
// "in" or "out" with the service that calls. A TCP connection has method "TCP" and
// no status. The columns in front have a fixed width, long ones push only what
// follows.
func appendText(b []byte, p *Place, x *wire.Exchange) []byte {
	b = x.Start.Local().AppendFormat(b, "15:04:05.000 ")
	method := x.Method
	switch {
	case isTCP(x):
		b, method = append(b, "-   "...), "TCP"
	case x.Status == 0:
		b = append(b, "-   "...)
	default:
		b = append(strconv.AppendInt(b, int64(x.Status), 10), ' ')
	}
	b = appendPadded(b, x.Flag.String(), 4)
	b = appendPadded(b, method, 6)
	upstream, proxy := x.Upstream()
	b = appendRight(b, duration(x), 9)
	b = append(b, "  proxy"...)
	b = appendRight(b, proxy, 8)
	b = append(b, "  upstream"...)
	b = appendRight(b, upstream, 9)
	b = append(b, "  "...)
	b = appendCaller(b, p, x)
	target := len(b)
	b = appendTarget(b, x)
	for len(b) < target+40 {
		b = append(b, ' ')
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.BytesOut, 10)
	b = append(b, "B "...)
	b = appendClean(b, x.Authority)
	b = appendClean(b, pathOf(x))
	b = append(b, ' ')
	b = appendClean(b, x.ID)
	if x.Err != nil {
		b = append(b, " ("...)
		b = appendClean(b, x.Err.Error())
		b = append(b, ')')
	}
	return append(b, '\n')
}

// appendCaller appends the consumer, or direction and source of a sidecar.
func appendCaller(b []byte, p *Place, x *wire.Exchange) []byte {
	switch p.Direction {
	case Inbound:
		b = append(b, "in "...)
	case Outbound:
		b = append(b, "out "...)
	case Gateway:
		b = append(b, "gw "...)
	case Edge:
		return appendPadded(b, orDash(x.Consumer), 10)
	}
	return appendPadded(b, p.source(x), 10)
}

// appendTarget appends "api/route -> cluster endpoint", as far as it came.
func appendTarget(b []byte, x *wire.Exchange) []byte {
	if x.API != "" {
		b = append(appendClean(b, x.API), '/')
	}
	b = appendClean(b, orDash(x.Route))
	if x.Cluster == "" {
		return b
	}
	b = append(b, " -> "...)
	// a mesh cluster's name goes on with datacenter and trust domain
	short, _, _ := strings.Cut(x.Cluster, ".default.")
	b = appendClean(b, short)
	if endpoint := endpointOf(x); endpoint != "" {
		b = append(b, ' ')
		b = appendClean(b, endpoint)
	}
	return b
}

// duration is the whole exchange, to the last byte.
func duration(x *wire.Exchange) time.Duration { return max(0, x.Finish.Sub(x.Start)) }

// pathOf is the path without its query, which may hold what is private.
func pathOf(x *wire.Exchange) string {
	path, _, _ := strings.Cut(x.Path, "?")
	return path
}

func flagOf(x *wire.Exchange) string {
	if x.Flag == wire.FlagNone {
		return ""
	}
	return x.Flag.String()
}

func endpointOf(x *wire.Exchange) string {
	if n := len(x.Attempts); n > 0 {
		return x.Attempts[n-1].Endpoint
	}
	return ""
}

// isTCP tells a connection from an exchange, which always has a method.
func isTCP(x *wire.Exchange) bool { return x.Method == "" }

// known is "" for what is not.
func known(label string) string {
	if label == none {
		return ""
	}
	return label
}

func orDash(text string) string {
	if text == "" {
		return none
	}
	return text
}

// appendMillis appends d as milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	micros := max(0, d.Microseconds())
	b = append(strconv.AppendInt(b, micros/1000, 10), '.')
	return append(b, byte('0'+micros/100%10), byte('0'+micros/10%10), byte('0'+micros%10))
}

// appendRight appends d as "12.30ms", right-aligned in width.
func appendRight(b []byte, d time.Duration, width int) []byte {
	var memory [32]byte
	text := strconv.AppendFloat(memory[:0], float64(d.Microseconds())/1e3, 'f', 2, 64)
	for range width - len(text) - len("ms") {
		b = append(b, ' ')
	}
	return append(append(b, text...), "ms"...)
}

// appendPadded appends text left-aligned in width, and a space.
func appendPadded(b []byte, text string, width int) []byte {
	start := len(b)
	b = appendClean(b, text)
	for len(b) < start+width {
		b = append(b, ' ')
	}
	return append(b, ' ')
}

// appendClean appends text for a terminal: nothing in it can move the cursor.
func appendClean(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// appendMember appends `,"name":"value"`, nothing if value is "".
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '"')
	const digits = "0123456789abcdef"
	for i := 0; i < len(value); {
		c := value[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(value[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is no UTF-8
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
