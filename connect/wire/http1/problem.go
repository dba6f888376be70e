package http1

import "net/http"

// problem is what is wrong with a message that was read. It is an error; zero
// means that nothing is.
type problem uint8

const (
	errBadRequestLine problem = iota + 1
	errBadMethod
	errBadTarget
	errBadVersion
	errNoVersion
	errBadStatusLine
	errBareLF
	errBadName
	errBadValue
	errNoHost
	errBadHost
	errBadLength
	errBadEncoding
	errUnknownEncoding
	errLengthAndEncoding
	errBadConnection
	errBadExpectation
	errBadChunk
	errBadTrailer
	errTooManyFields
	errHeadTooLarge
	errTargetTooLong
	errHeadTimeout
	errNoConnect
	errUnasked101
	errTooManyInterim
)

// Error says it in words that may be shown to the other side.
func (p problem) Error() string {
	switch p {
	case errBadRequestLine:
		return "malformed request line"
	case errBadMethod:
		return "malformed method"
	case errBadTarget:
		return "malformed request target"
	case errBadVersion:
		return "unsupported HTTP version"
	case errNoVersion:
		return "the request line names no version of HTTP"
	case errBadStatusLine:
		return "malformed status line"
	case errBareLF:
		return "line does not end in CRLF"
	case errBadName:
		return "malformed field name"
	case errBadValue:
		return "invalid character in field value"
	case errNoHost:
		return "missing Host"
	case errBadHost:
		return "malformed Host"
	case errBadLength:
		return "malformed Content-Length"
	case errBadEncoding:
		return "malformed Transfer-Encoding"
	case errUnknownEncoding:
		return "unsupported Transfer-Encoding"
	case errLengthAndEncoding:
		return "both Transfer-Encoding and Content-Length"
	case errBadConnection:
		return "malformed Connection"
	case errBadExpectation:
		return "unknown expectation"
	case errBadChunk:
		return "malformed chunked body"
	case errBadTrailer:
		return "malformed trailer"
	case errTooManyFields:
		return "too many fields"
	case errHeadTooLarge:
		return "head too large"
	case errTargetTooLong:
		return "request target too long"
	case errHeadTimeout:
		return "the head took too long"
	case errNoConnect:
		return "CONNECT is not allowed"
	case errUnasked101:
		return "switching protocols without being asked"
	case errTooManyInterim:
		return "too many interim responses"
	}
	return "malformed message"
}

// status is what a request with this problem is answered with.
func (p problem) status() int {
	switch p {
	case errBadVersion:
		return http.StatusHTTPVersionNotSupported
	case errUnknownEncoding:
		return http.StatusNotImplemented
	case errBadExpectation:
		return http.StatusExpectationFailed
	case errTooManyFields, errHeadTooLarge:
		return http.StatusRequestHeaderFieldsTooLarge
	case errTargetTooLong:
		return http.StatusRequestURITooLong
	case errHeadTimeout:
		return http.StatusRequestTimeout
	case errNoConnect:
		return http.StatusMethodNotAllowed
	default:
		return http.StatusBadRequest
	}
}

// err is p as an error, nil for zero.
func (p problem) err() error {
	if p == 0 {
		return nil
	}
	return p
}
