package format

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// field finds a field of a head; "" and false if it is not there.
type field func(in *Input) (string, bool)

// headOperator are those that read heads and trailers.
func headOperator(name string) (definition, bool) {
	switch name {
	case "REQ":
		return definition{syntax: wantsArg | takesMax, make: fieldOperator(requestField)}, true
	case "RESP":
		return definition{syntax: wantsArg | takesMax, make: fieldOperator(responseField)}, true
	case "TRAILER":
		return definition{syntax: wantsArg | takesMax, make: fieldOperator(trailerField)}, true
	case "PATH":
		return definition{syntax: takesArg | takesMax, make: pathOperator}, true
	case "QUERY_PARAM":
		return definition{syntax: wantsArg | takesMax, make: queryOperator}, true
	case "GRPC_STATUS":
		return definition{syntax: takesArg, make: grpcOperator}, true
	case "GRPC_STATUS_NUMBER":
		return definition{make: func(string) (operator, error) { return grpcNumber, nil }}, true
	case "REQUEST_HEADERS_BYTES":
		return plainly(count(func(in *Input) int64 { return requestBytes(in.request()) }))
	case "RESPONSE_HEADERS_BYTES":
		return plainly(count(func(in *Input) int64 { return responseBytes(in.response()) }))
	case "RESPONSE_TRAILERS_BYTES":
		return plainly(count(func(in *Input) int64 { return fieldBytes(in.Trailer) }))
	}
	return definition{}, false
}

// fieldOperator reads `main?alternative`.
func fieldOperator(find func(name string) field) func(arg string) (operator, error) {
	return func(arg string) (operator, error) {
		if arg == "" {
			return nil, errArg
		}
		if strings.ContainsAny(arg, "\r\n\x00") {
			return nil, errors.New("the name of a field has control characters")
		}
		main, other, _ := strings.Cut(arg, "?")
		if strings.Contains(other, "?") {
			return nil, fmt.Errorf("more than one alternative in %q", arg)
		}
		first, second := find(strings.ToLower(main)), field(nil)
		if other != "" {
			second = find(strings.ToLower(other))
		}
		return fieldValue(first, second, false), nil
	}
}

// fieldValue writes the first field, or the second (which may be nil) if that is
// not there; cut drops the query.
func fieldValue(first, second field, cut bool) operator {
	return func(dst []byte, in *Input) ([]byte, kind) {
		value, ok := first(in)
		if !ok && second != nil {
			value, ok = second(in)
		}
		if !ok {
			return dst, absent
		}
		if cut {
			value, _, _ = strings.Cut(value, "?")
		}
		return append(dst, value...), text
	}
}

// requestField reads a field of the request. What codecs keep to themselves is
// told from what they made of it.
func requestField(name string) field {
	read := func(value func(req *wire.Request) string) field {
		return func(in *Input) (string, bool) {
			if in.request() == nil {
				return "", false
			}
			v := value(in.request())
			return v, v != ""
		}
	}
	switch name {
	case ":method":
		return read(func(req *wire.Request) string { return req.Method })
	case ":path":
		return read(func(req *wire.Request) string { return req.Path })
	case ":authority", "host":
		return read(func(req *wire.Request) string { return req.Authority })
	case ":scheme":
		return read(func(req *wire.Request) string { return req.Scheme })
	case "upgrade":
		return read(func(req *wire.Request) string { return req.Upgrade })
	case "content-length":
		return read(func(req *wire.Request) string { return length(req.ContentLength, req.Body == nil) })
	}
	return func(in *Input) (string, bool) {
		if in.request() == nil {
			return "", false
		}
		return in.request().Header.Lookup(name)
	}
}

func length(n int64, none bool) string {
	if n < 0 || n == 0 && none {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func responseField(name string) field {
	switch name {
	case ":status":
		return func(in *Input) (string, bool) {
			if in.response() == nil {
				return "", false
			}
			return strconv.Itoa(in.response().Status), true
		}
	case "content-length":
		return func(in *Input) (string, bool) {
			if in.response() == nil {
				return "", false
			}
			v := length(in.response().ContentLength, in.response().Body == nil && in.response().ContentLength < 0)
			return v, v != ""
		}
	}
	return func(in *Input) (string, bool) {
		if in.response() == nil {
			return "", false
		}
		return in.response().Header.Lookup(name)
	}
}

func trailerField(name string) field {
	return func(in *Input) (string, bool) { return in.Trailer.Lookup(name) }
}

// pathOperator reads `WQ|NQ:ORIG|PATH|ORIG_OR_PATH`.
func pathOperator(arg string) (operator, error) {
	query, from, _ := strings.Cut(arg, ":")
	if query != "" && query != "WQ" && query != "NQ" {
		return nil, fmt.Errorf("%q is neither WQ nor NQ", query)
	}
	cut := query == "NQ"
	current, original := requestField(":path"), requestField("x-envoy-original-path")
	switch from {
	case "", "ORIG_OR_PATH":
		return fieldValue(original, current, cut), nil
	case "ORIG":
		return fieldValue(original, nil, cut), nil
	case "PATH":
		return fieldValue(current, nil, cut), nil
	}
	return nil, fmt.Errorf("%q is none of ORIG, PATH and ORIG_OR_PATH", from)
}

func queryOperator(arg string) (operator, error) {
	if arg == "" {
		return nil, errArg
	}
	return func(dst []byte, in *Input) ([]byte, kind) {
		if in.request() == nil {
			return dst, absent
		}
		for pair := range strings.SplitSeq(in.request().Query(), "&") {
			name, value, _ := strings.Cut(pair, "=")
			if decoded(name) == arg {
				return append(dst, decoded(value)...), text
			}
		}
		return dst, absent
	}, nil
}

// decoded is s without percent-encoding, or s itself if it has none that is right.
// A plus sign means itself, as for Envoy.
func decoded(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// What the fields of a head have in bytes, names and values.
func fieldBytes(h *wire.Header) int64 {
	n := 0
	for i := range h.Len() {
		f := h.At(i)
		n += len(f.Name) + len(f.Value)
	}
	return int64(n)
}

func requestBytes(req *wire.Request) int64 {
	if req == nil {
		return 0
	}
	const names = len(":method") + len(":path") + len(":authority") + len(":scheme")
	return fieldBytes(&req.Header) + int64(names+len(req.Method)+len(req.Path)+len(req.Authority)+len(req.Scheme))
}

func responseBytes(resp *wire.Response) int64 {
	if resp == nil {
		return 0
	}
	return fieldBytes(&resp.Header) + int64(len(":status")+len("200"))
}
