package format

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// Input is what a text is written from. It is only read.
type Input struct {
	// Exchange is never nil. Its Request and Response are taken for the heads; for
	// a value that is written before the response is known to the codec, Response
	// below counts instead.
	Exchange *wire.Exchange
	Response *wire.Response
	// Trailer of the response; nil if there is none.
	Trailer *wire.Header
	// Chain is the name of the filter chain; "" if it has none.
	Chain string
	// LogType is %ACCESS_LOG_TYPE%; "" means NotSet.
	LogType string
	// LocalBody is the text of an answer of our own (%LOCAL_REPLY_BODY%).
	LocalBody string
	// TraceID is that of the active span; "" if nothing is traced.
	TraceID string
}

func (in *Input) request() *wire.Request { return in.Exchange.Request }

func (in *Input) response() *wire.Response {
	if in.Response != nil {
		return in.Response
	}
	return in.Exchange.Response
}

// attempt is the last one; nil if there was none.
func (in *Input) attempt() *wire.Attempt {
	if n := len(in.Exchange.Attempts); n > 0 {
		return &in.Exchange.Attempts[n-1]
	}
	return nil
}

// upstream is the other end of the last attempt's connection; nil if there was none.
func (in *Input) upstream() *wire.Peer {
	if a := in.attempt(); a != nil {
		return a.Peer
	}
	return nil
}

// kind says what an operator has written.
type kind uint8

const (
	absent kind = iota // nothing: it is not known
	text               // characters that mean themselves
	number             // a number, as JSON has it
	raw                // true, false, null, a list or an object of JSON
)

// operator appends its value. If it is absent, dst comes back as it was.
type operator func(dst []byte, in *Input) ([]byte, kind)

// part is an operator, or plain text before the next one.
type part struct {
	plain string
	op    operator
	// most is the length at which the value is cut off, in bytes; negative for none.
	most int
	// blank is the name of an operator that never has a value here; "" for others.
	blank string
}

// append appends the value, cut off. What is structured is cut only within a text
// (loose).
func (p *part) append(dst []byte, in *Input, loose bool) ([]byte, kind) {
	start := len(dst)
	dst, k := p.op(dst, in)
	if p.most >= 0 && len(dst)-start > p.most && (loose || k == text) {
		dst = dst[:start+p.most]
	}
	return dst, k
}

// Text is a compiled text. It is safe for concurrent use and does not change.
type Text struct {
	parts []part
}

// unknown is written for what is not known.
const unknown = '-'

// Blanks are the names of operators whose value is never known here.
func (t *Text) Blanks() []string {
	var all []string
	for i := range t.parts {
		if blank := t.parts[i].blank; blank != "" {
			all = append(all, blank)
		}
	}
	return all
}

// Plain returns the text if there is no operator in it.
func (t *Text) Plain() (plain string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].op == nil:
		return t.parts[0].plain, true
	}
	return "", false
}

// Append appends the text; what is not known is "-".
func (t *Text) Append(dst []byte, in *Input) []byte {
	return t.append(dst, in, false, false)
}

// AppendKnown appends the text without anything for what is not known
// (omit_empty_values).
func (t *Text) AppendKnown(dst []byte, in *Input) []byte {
	return t.append(dst, in, true, false)
}

// AppendLine appends the text as a line of a log, or a part of one: no value can end
// it, or reach the terminal on which it is read, whatever a client has said. omit is as
// for AppendKnown.
func (t *Text) AppendLine(dst []byte, in *Input, omit bool) []byte {
	return t.append(dst, in, omit, true)
}

// AppendField appends the text as the value of a field, as AppendKnown does: it is one
// whatever is in it (RFC 9110 section 5.5).
func (t *Text) AppendField(dst []byte, in *Input) []byte {
	start := len(dst)
	dst = t.append(dst, in, true, false)
	if !grammar.IsValue(dst[start:]) {
		blank(dst[start:])
	}
	n := copy(dst[start:], bytes.Trim(dst[start:], " \t"))
	return dst[:start+n]
}

// append appends the text, if clean with spaces in place of the control characters that
// values have.
func (t *Text) append(dst []byte, in *Input, omit, clean bool) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		if p.op == nil {
			dst = append(dst, p.plain...)
			continue
		}
		start := len(dst)
		var k kind
		if dst, k = p.append(dst, in, true); k == absent && !omit {
			dst = append(dst, unknown)
		}
		if clean {
			blankLine(dst[start:])
		}
	}
	return dst
}

// blankLine makes spaces of control characters, but tabs: also of those that are not of
// ASCII (C1), as UTF-8 or as bytes that are none.
func blankLine(value []byte) {
	if !grammar.IsValue(value) {
		blank(value)
	}
	if !isASCII(value) {
		blankHigh(value)
	}
}

func isASCII(b []byte) bool {
	const highs = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&highs != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// blankHigh makes spaces of the control characters that are not of ASCII.
func blankHigh(value []byte) {
	for n := 1; len(value) > 0; value = value[n:] {
		var r rune
		if r, n = utf8.DecodeRune(value); n == 1 {
			r = rune(value[0])
		}
		if r >= utf8.RuneSelf && r < 0xa0 {
			copy(value[:n], "  ")
		}
	}
}

// blank makes spaces of control characters, but tabs.
func blank(value []byte) {
	for i, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			value[i] = ' '
		}
	}
}

// single is the only part, if it is an operator.
func (t *Text) single() *part {
	if len(t.parts) == 1 && t.parts[0].op != nil {
		return &t.parts[0]
	}
	return nil
}
