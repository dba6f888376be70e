package http1

import (
	"bytes"
	"net/http"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// parseResponse reads one whole head, up to and including its empty line, into
// resp and f. It rewrites field names in block to lower case, and what it sets
// are views of block. It leaves Body.
func parseResponse(block []byte, lim limits, resp *wire.Response, f *framing) (minor int, p problem) {
	end := bytes.IndexByte(block, '\n')
	if end < 1 || block[end-1] != '\r' {
		return 0, errBareLF
	}
	line := block[:end-1]
	if len(line) < len("HTTP/1.1 200") || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return 0, errBadStatusLine
	}
	if minor, p = parseVersion(grammar.View(line[:8])); p != 0 {
		return 0, p
	}
	status := 0
	for _, c := range line[9:12] {
		if !isDigit(c) {
			return 0, errBadStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || !grammar.IsValue(line[12:]) {
		return 0, errBadStatusLine
	}
	resp.Status, resp.Upgrade = status, ""
	resp.Header.Reset()
	return minor, parseFields(block[end+1:], lim, &resp.Header, f)
}

// frame says how the end of a body is told.
type frame uint8

const (
	frameNone    frame = iota // there is no body
	frameLength               // by Content-Length
	frameChunked              // by the last chunk
	frameClose                // by the end of the connection; also what is raw
)

// frameResponse says how the response to method is framed (RFC 9112 section
// 6.3) and sets ContentLength and Upgrade.
func frameResponse(method string, minor int, resp *wire.Response, f *framing) (frame, problem) {
	resp.ContentLength = f.length
	if f.chunked && minor == 0 {
		return frameNone, errBadEncoding
	}
	switch {
	case resp.Status == http.StatusSwitchingProtocols:
		resp.Upgrade, resp.ContentLength = f.upgrade, wire.UnknownLength
		if f.upgrade == "" || !f.upgrading {
			return frameNone, errUnasked101
		}
		return frameClose, 0
	case method == http.MethodConnect && resp.Status/100 == 2:
		resp.ContentLength = wire.UnknownLength
		return frameClose, 0
	case resp.Status == http.StatusNoContent:
		resp.ContentLength = 0
		return frameNone, 0
	case method == http.MethodHead, resp.Status == http.StatusNotModified:
		return frameNone, 0
	case f.chunked:
		return frameChunked, 0
	case f.length == 0:
		return frameNone, 0
	case f.length > 0:
		return frameLength, 0
	}
	return frameClose, 0
}
