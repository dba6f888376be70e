package format

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strconv"

	"github.com/serai-net/serai/connect/wire"
)

// lookup finds the operator of a name. The groups are functions of their own, so
// that a reader finds one.
func lookup(name string) (definition, bool) {
	for _, group := range []func(string) (definition, bool){
		headOperator, streamOperator, timeOperator, upstreamOperator, downstreamOperator, tlsOperator, dataOperator,
	} {
		if d, ok := group(name); ok {
			return d, true
		}
	}
	return definition{}, false
}

// plainly defines an operator without argument and length.
func plainly(op operator) (definition, bool) {
	return definition{make: func(string) (operator, error) { return op, nil }}, true
}

// never defines an operator whose value is never known here, such as what only
// an Envoy with that extension knows.
func never() (definition, bool) { return definition{make: nothing, blank: true}, true }

// nothing is an operator without a value.
func nothing(string) (operator, error) {
	return func(dst []byte, _ *Input) ([]byte, kind) { return dst, absent }, nil
}

// word is an operator whose value is a string, "" if it is not known.
func word(value func(in *Input) string) operator {
	return func(dst []byte, in *Input) ([]byte, kind) {
		return appendWord(dst, value(in))
	}
}

func appendWord(dst []byte, value string) ([]byte, kind) {
	if value == "" {
		return dst, absent
	}
	return append(dst, value...), text
}

// count is an operator whose value is a number.
func count(value func(in *Input) int64) operator {
	return func(dst []byte, in *Input) ([]byte, kind) {
		return strconv.AppendInt(dst, value(in), 10), number
	}
}

// fixed is an operator whose value is known when it is compiled.
func fixed(value string) operator {
	return func(dst []byte, _ *Input) ([]byte, kind) { return appendWord(dst, value) }
}

// streamOperator are those of the exchange or connection as a whole.
func streamOperator(name string) (definition, bool) {
	switch name {
	case "PROTOCOL":
		return plainly(word(func(in *Input) string { return protocol(in.request()) }))
	case "RESPONSE_CODE":
		return plainly(count(func(in *Input) int64 {
			if in.Exchange.Status == 0 && in.Response != nil {
				return int64(in.Response.Status) // which is about to be sent
			}
			return int64(in.Exchange.Status)
		}))
	case "RESPONSE_CODE_DETAILS":
		return definition{syntax: takesArg, make: details}, true
	case "CONNECTION_TERMINATION_DETAILS":
		return plainly(word(func(in *Input) string { return in.Exchange.Termination }))
	case "RESPONSE_FLAGS":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) { return in.Exchange.AppendFlags(dst, false), text })
	case "RESPONSE_FLAGS_LONG":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) { return in.Exchange.AppendFlags(dst, true), text })
	case "BYTES_RECEIVED":
		return plainly(count(func(in *Input) int64 { return in.Exchange.BytesIn }))
	case "BYTES_SENT":
		return plainly(count(func(in *Input) int64 { return in.Exchange.BytesOut }))
	case "ROUTE_NAME":
		return plainly(word(func(in *Input) string { return in.Exchange.Rule }))
	case "VIRTUAL_CLUSTER_NAME":
		return never()
	case "CUSTOM_FLAGS":
		return plainly(func(dst []byte, _ *Input) ([]byte, kind) { return dst, text })
	case "BYTES_RETRANSMITTED", "PACKETS_RETRANSMITTED": // of QUIC
		return plainly(count(func(*Input) int64 { return 0 }))
	case "HOSTNAME":
		return definition{make: hostname}, true
	case "ENVIRONMENT":
		return definition{syntax: wantsArg | takesMax, make: environment}, true
	case "STREAM_ID":
		return plainly(streamID)
	case "UNIQUE_ID":
		return plainly(uniqueID)
	case "TRACE_ID":
		return plainly(word(func(in *Input) string { return in.TraceID }))
	case "ACCESS_LOG_TYPE":
		return plainly(word(func(in *Input) string {
			if in.LogType == "" {
				return "NotSet"
			}
			return in.LogType
		}))
	case "LOCAL_REPLY_BODY":
		return plainly(func(dst []byte, in *Input) ([]byte, kind) { return append(dst, in.LocalBody...), text })
	}
	return definition{}, false
}

func protocol(req *wire.Request) string {
	switch {
	case req == nil:
		return ""
	case req.Proto == 2:
		return "HTTP/2"
	case req.Proto == 3:
		return "HTTP/3"
	case req.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// details writes no white space unless it is asked for: a line of a log is read
// by fields.
func details(arg string) (operator, error) {
	if arg == "ALLOW_WHITESPACES" {
		return word(func(in *Input) string { return in.Exchange.ResponseDetails() }), nil
	}
	return func(dst []byte, in *Input) ([]byte, kind) {
		start := len(dst)
		dst, k := appendWord(dst, in.Exchange.ResponseDetails())
		for i := start; i < len(dst); i++ {
			if dst[i] == ' ' || dst[i] >= '\t' && dst[i] <= '\r' {
				dst[i] = '_'
			}
		}
		return dst, k
	}, nil
}

func hostname(string) (operator, error) {
	name, err := os.Hostname()
	if err != nil {
		name = "" // "-", as Envoy has it
	}
	return fixed(name), nil
}

func environment(arg string) (operator, error) {
	if arg == "" {
		return nil, errArg
	}
	value, ok := os.LookupEnv(arg)
	if !ok {
		value = string(unknown)
	}
	return func(dst []byte, _ *Input) ([]byte, kind) { return append(dst, value...), text }, nil
}

// streamID is x-request-id where there is one, else our own name of the exchange.
func streamID(dst []byte, in *Input) ([]byte, kind) {
	if req := in.request(); req != nil {
		if id := req.Header.Get("x-request-id"); id != "" {
			return append(dst, id...), text
		}
	}
	if id := in.Exchange.ID; id != "" {
		return append(dst, id...), text
	}
	return dst, absent
}

// uniqueID is a new UUID of version 4 (RFC 9562) each time.
func uniqueID(dst []byte, _ *Input) ([]byte, kind) {
	return AppendUUID(dst), text
}

// AppendUUID appends a new random UUID of version 4 (RFC 9562).
func AppendUUID(dst []byte) []byte {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // a name that is no secret
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // a name that is no secret
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	for i, n := range [...]int{4, 6, 8, 10, 16} {
		from := [...]int{0, 4, 6, 8, 10}[i]
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, b[from:n])
	}
	return dst
}
