package stack

import (
	"net/http"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// normalize rewrites the path as the chain asks, before any decision.
func normalize(h *mesh.HTTP) wire.Layer {
	if !h.NormalizePath && !h.MergeSlashes && h.EscapedSlashes == mesh.KeepEscapedSlashes {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			resp, err := normalizePath(h, x, req)
			if resp != nil || err != nil {
				return resp, err
			}
			return next.Serve(x, req)
		})
	}
}

// normalizePath follows Envoy's order: escaped slashes, normal form, slashes
// merged, and only then the redirect.
func normalizePath(h *mesh.HTTP, x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	path := req.PathOnly()
	if path == "*" || path == "" {
		return nil, nil //nolint:nilnil // nothing to change, nothing to answer
	}
	query, before := req.Path[len(path):], path
	redirect := false
	if h.EscapedSlashes != mesh.KeepEscapedSlashes && hasEscapedSlash(path) {
		if h.EscapedSlashes == mesh.RejectEscapedSlashes {
			return nil, badPath("escaped slash in the path")
		}
		path = unescapeSlashes(path)
		redirect = h.EscapedSlashes == mesh.UnescapeAndRedirect
	}
	if h.NormalizePath {
		var ok bool
		if path, ok = NormalizePath(path); !ok {
			return nil, badPath("the path cannot be normalised")
		}
	}
	if h.MergeSlashes {
		path = MergeSlashes(path)
	}
	if redirect && x.GRPC { // which knows of no redirects
		return nil, badPath("escaped slash in the path")
	}
	if redirect {
		// With its host: "//name/" alone would lead to another.
		to := req.Scheme + "://" + req.Authority + path + query
		return wire.Answer(x, http.StatusTemporaryRedirect, "", func(h *wire.Header) { h.Set("location", to) }), nil
	}
	if path != before {
		req.Path = path + query
	}
	return nil, nil //nolint:nilnil // changed in place
}

func badPath(text string) error {
	return &wire.Fault{
		Status: http.StatusBadRequest, Flag: wire.FlagDownstreamProtocol, Text: text, Details: "path_normalization_failed",
	}
}

func hasEscapedSlash(path string) bool {
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && slashOf(path[i+1:i+3]) != 0 {
			return true
		}
	}
	return false
}

func slashOf(hex string) byte {
	switch hex {
	case "2F", "2f":
		return '/'
	case "5C", "5c":
		return '\\'
	}
	return 0
}

func unescapeSlashes(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if c := slashOf(path[i+1 : i+3]); c != 0 {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// NormalizePath makes a path normal exactly as Envoy does: escapes of unreserved
// characters are decoded, and others stay as they are, whatever the case of their
// digits (RFC 3986 section 6.2.2.1 would have it upper); characters that do not
// belong into a URI are escaped; "\" becomes "/", and dot segments are removed.
// Intentions compare with the result, so that each spelling has to be Envoy's. It
// reports false for a path that is not absolute or has a broken escape or an
// escaped NUL. The result is a fixed point: normalising it again changes nothing.
func NormalizePath(path string) (string, bool) {
	if path == "" || path[0] != '/' {
		return "", false
	}
	if isNormal(path) {
		return path, true
	}
	decoded := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '\\':
			decoded = append(decoded, '/')
		case '%':
			if i+2 >= len(path) {
				return "", false
			}
			hi, lo := unhex(path[i+1]), unhex(path[i+2])
			if hi > 15 || lo > 15 {
				return "", false
			}
			switch v := hi<<4 | lo; {
			case v == 0:
				return "", false
			case unreserved(v):
				decoded = append(decoded, v)
			default:
				decoded = append(decoded, path[i:i+3]...)
			}
			i += 2
		case '"', '<', '>', '^', '`', '{', '|', '}':
			const digits = "0123456789ABCDEF"
			decoded = append(decoded, '%', digits[c>>4], digits[c&15])
		default:
			decoded = append(decoded, c)
		}
	}
	return removeDots(string(decoded)), true
}

// isNormal is true for a path that normalising cannot change.
func isNormal(path string) bool {
	for i := range len(path) {
		switch path[i] {
		case '%', '\\', '"', '<', '>', '^', '`', '{', '|', '}':
			return false
		case '.':
			if path[i-1] == '/' {
				return false // perhaps a dot segment
			}
		}
	}
	return true
}

// removeDots is RFC 3986 section 5.2.4.
func removeDots(path string) string {
	segments := strings.Split(path[1:], "/")
	kept := segments[:0]
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
			if last {
				kept = append(kept, "")
			}
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// MergeSlashes makes one slash of several.
func MergeSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	merged := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			merged = append(merged, path[i])
		}
	}
	return string(merged)
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
