package http2

import (
	"fmt"

	"golang.org/x/net/http2"
)

// connError ends a connection: what the other side did is no HTTP/2.
type connError struct {
	code   http2.ErrCode
	reason string
}

func (e connError) Error() string { return fmt.Sprintf("%s: %s", e.code, e.reason) }

// ResetError says that the other side has ended a stream with RST_STREAM. It is
// the cause of a [wire.Fault], and a server that finds it there ends its own
// stream with the same code.
type ResetError struct {
	// Code is one of RFC 9113 section 7.
	Code uint32
}

// Error names the code.
func (e *ResetError) Error() string {
	return "stream reset by the other side: " + http2.ErrCode(e.Code).String()
}

// breach is a message that breaks its own word, or ours.
type breach string

func (b breach) Error() string { return string(b) }

const (
	errTooLong       breach = "body is longer than its Content-Length"
	errTooShort      breach = "body is shorter than its Content-Length"
	errBadField      breach = "field with an invalid character"
	errClosedBody    breach = "read of a closed body"
	errBadResponse   breach = "response that cannot be sent"
	errBadRequest    breach = "request that cannot be sent"
	errPanicked      breach = "panic while serving"
	errNoAnswer      breach = "neither response nor error"
	errLost          breach = "connection was lost"
	errGone          breach = "connection takes no more streams"
	errUnprocessed   breach = "the other side did not process the stream"
	errNoConnect     breach = "the other side does not know extended CONNECT"
	errEndedStream   breach = "the stream has ended"
	errMalformed     breach = "malformed message"
	errHeadTooLarge  breach = "head too large"
	errManyFields    breach = "too many fields"
	errInterimFlood  breach = "too many interim responses"
	errBadName       breach = "malformed field name"
	errBadValue      breach = "invalid character in field value"
	errBadPseudo     breach = "pseudo-header that is unknown, repeated or out of place"
	errMissingPseudo breach = "missing pseudo-header"
	errConnField     breach = "field of the connection"
	errBadTE         breach = "te other than trailers"
	errBadLength     breach = "malformed Content-Length"
	errBadHost       breach = "malformed or contradictory Host"
	errBadPath       breach = "malformed :path"
	errBadMethod     breach = "malformed :method"
	errBadScheme     breach = "malformed :scheme"
	errBadStatus     breach = "malformed :status"
	errBadTrailer    breach = "malformed trailer"
	errSelfDepend    breach = "stream that depends on itself"
)

// errStalled says that something took longer than it may.
const errStalled breach = "timeout"
