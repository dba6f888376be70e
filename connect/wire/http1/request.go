package http1

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// parseRequest reads one whole head, up to and including its empty line, into
// req and f. It rewrites field names in block to lower case, and what it sets
// are views of block. It leaves Body, and Scheme is "" unless the target has one.
func parseRequest(block []byte, lim limits, connect bool, req *wire.Request, f *framing) problem {
	end := bytes.IndexByte(block, '\n')
	if end < 1 || block[end-1] != '\r' {
		return errBareLF
	}
	line := grammar.View(block[:end-1])
	method, line, ok := strings.Cut(line, " ")
	if !ok {
		return errBadRequestLine
	}
	target, version, ok := strings.Cut(line, " ")
	switch {
	case !ok:
		return errBadRequestLine
	case !grammar.IsToken(method):
		return errBadMethod
	}
	minor, p := parseVersion(version)
	switch {
	case p != 0 && !strings.Contains(version, "HTTP/"):
		return errNoVersion
	case p != 0:
		return p
	case !grammar.IsTarget(target):
		return errBadTarget
	}
	req.Header.Reset()
	if p = parseFields(block[end+1:], lim, &req.Header, f); p != 0 {
		return p
	}
	req.Method, req.Path, req.Authority, req.Scheme = method, target, f.host, ""
	req.Proto, req.Minor = 1, minor
	if p = checkHost(minor, f); p != 0 {
		return p
	}
	if p = splitTarget(req, connect); p != 0 {
		return p
	}
	return frameRequest(req, f)
}

// parseVersion reads "HTTP/1.1" or "HTTP/1.0".
func parseVersion(s string) (minor int, p problem) {
	switch {
	case s == "HTTP/1.1":
		return 1, 0
	case s == "HTTP/1.0":
		return 0, 0
	case len(s) == 8 && s[:5] == "HTTP/" && isDigit(s[5]) && s[6] == '.' && isDigit(s[7]):
		return 0, errBadVersion
	}
	return 0, errBadRequestLine
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// checkHost looks at the Host field (RFC 9112 section 3.2).
func checkHost(minor int, f *framing) problem {
	switch {
	case f.hosts > 1:
		return errBadHost
	case f.hosts == 0 && minor > 0:
		return errNoHost
	case !grammar.IsAuthority(f.host):
		return errBadHost
	}
	return 0
}

// splitTarget finds the form of the target (RFC 9112 section 3.2) in req.Path
// and sets Path, Authority and Scheme from it.
func splitTarget(req *wire.Request, connect bool) problem {
	target := req.Path
	switch {
	case req.Method == http.MethodConnect:
		if !connect {
			return errNoConnect
		}
		if !grammar.IsAuthority(target) || strings.IndexByte(target, ':') < 0 || target[len(target)-1] == ':' {
			return errBadTarget
		}
		req.Authority, req.Path = target, ""
		return 0
	case target[0] == '/':
		return 0
	case target == "*":
		if req.Method != http.MethodOptions {
			return errBadTarget
		}
		return 0
	}
	scheme, rest, found := strings.Cut(target, "://")
	switch {
	case found && strings.EqualFold(scheme, "http"):
		req.Scheme = "http"
	case found && strings.EqualFold(scheme, "https"):
		req.Scheme = "https"
	default:
		return errBadTarget
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if authority == "" || !grammar.IsAuthority(authority) {
		return errBadTarget
	}
	switch {
	case path == "" && req.Method == http.MethodOptions:
		path = "*" // RFC 9112 section 3.2.4
	case path == "":
		path = "/"
	case path[0] == '?':
		path = "/" + path
	}
	req.Authority, req.Path = authority, path
	return 0
}

// frameRequest sets what follows from f: ContentLength, Upgrade and
// ExpectContinue.
func frameRequest(req *wire.Request, f *framing) problem {
	req.ContentLength, req.Upgrade, req.ExpectContinue = 0, "", false
	switch {
	case f.chunked && req.Minor == 0:
		return errBadEncoding
	case f.chunked:
		req.ContentLength = wire.UnknownLength
	case f.length > 0:
		req.ContentLength = f.length
	}
	if req.Method == http.MethodConnect && req.ContentLength != 0 {
		return errBadLength
	}
	if req.Minor == 0 {
		return 0
	}
	if f.expect != "" {
		if !strings.EqualFold(f.expect, "100-continue") {
			return errBadExpectation
		}
		req.ExpectContinue = req.ContentLength != 0
	}
	if f.upgrading && req.ContentLength == 0 && req.Method != http.MethodConnect && !grammar.HasToken(f.upgrade, "h2c") {
		req.Upgrade = f.upgrade
	}
	return 0
}

// keepsAlive tells whether the sender of a head lets the connection live on
// (RFC 9112 section 9.3).
func (f *framing) keepsAlive(minor int) bool {
	return !f.closing && (minor > 0 || f.keeping)
}
