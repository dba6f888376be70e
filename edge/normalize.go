package edge

import (
	"bytes"
	"errors"
	"strings"
)

// Reasons for which a path is refused. What they have in common is that
// upstreams disagree about what such a path means, so that a decision made here
// would be about another resource than the one that is served.
var (
	errPathStart   = errors.New("path does not begin with a slash")
	errPathByte    = errors.New("path has a character that is not allowed")
	errPathEscape  = errors.New("path has a malformed percent-encoding")
	errPathSlash   = errors.New("path has an encoded slash, backslash or NUL")
	errPathSegment = errors.New("path has a dot segment with parameters")
)

// NormalizePath puts the path of a request target into its one normal form and
// leaves the query alone: dot segments are resolved, slashes merged, unreserved
// characters decoded and other encodings upper-cased (RFC 3986 section 6.2.2).
// It is idempotent, and returns target itself if that is normal already.
func NormalizePath(target string) (string, error) {
	path, query := target, ""
	if i := strings.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	if path == "" || path[0] != '/' {
		return "", errPathStart
	}
	normal, err := isNormal(path)
	if err != nil {
		return "", err
	}
	if normal {
		return target, nil
	}
	decoded, err := decodePath(path)
	if err != nil {
		return "", err
	}
	out := make([]byte, 0, len(decoded)+len(query))
	if out, err = resolveSegments(out, decoded); err != nil {
		return "", err
	}
	return string(append(out, query...)), nil
}

// isNormal tells whether a path has nothing that could need a change. It is the
// fast way: most paths have neither "%" nor "/." nor "//".
func isNormal(path string) (bool, error) {
	normal := true
	for i := range len(path) {
		switch c := path[i]; {
		case c <= ' ', c == 0x7f, c == '\\', c == '#':
			return false, errPathByte
		case c == '%':
			normal = false
		case c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.'):
			normal = false
		}
	}
	return normal, nil
}

// decodePath decodes what must not be encoded and upper-cases the rest.
func decodePath(path string) ([]byte, error) {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			out = append(out, path[i])
			continue
		}
		if i+2 >= len(path) {
			return nil, errPathEscape
		}
		high, low := unhex(path[i+1]), unhex(path[i+2])
		if high < 0 || low < 0 {
			return nil, errPathEscape
		}
		switch c := byte(high<<4 | low); {
		case c == '/', c == '\\', c == 0:
			return nil, errPathSlash
		case isUnreserved(c):
			out = append(out, c)
		default:
			const digits = "0123456789ABCDEF"
			out = append(out, '%', digits[high], digits[low])
		}
		i += 2
	}
	return out, nil
}

// resolveSegments appends path to out without empty and dot segments. ".." at
// the root stays at the root (RFC 3986 section 5.2.4).
func resolveSegments(out, path []byte) ([]byte, error) {
	for len(path) > 0 {
		path = path[1:] // the slash
		end := 0
		for end < len(path) && path[end] != '/' {
			end++
		}
		segment := path[:end]
		path = path[end:]
		last := len(path) == 0
		switch {
		case len(segment) == 0, string(segment) == ".":
			// a slash at the end stays
		case string(segment) == "..":
			out = out[:max(0, bytes.LastIndexByte(out, '/'))]
		case hasDotParameters(segment):
			return nil, errPathSegment
		default:
			out = append(append(out, '/'), segment...)
			continue
		}
		if last {
			out = append(out, '/')
		}
	}
	return out, nil
}

// hasDotParameters finds "..;x", which some upstreams read as "..".
func hasDotParameters(segment []byte) bool {
	dots := 0
	for dots < len(segment) && segment[dots] == '.' {
		dots++
	}
	return (dots == 1 || dots == 2) && dots < len(segment) && segment[dots] == ';'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// isUnreserved is RFC 3986 section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
