package trace

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// Context is what is known of the span that a request is a part of.
type Context struct {
	// Trace has its high half 0 if the trace has a 64-bit identifier. Parent is 0 if
	// the span has none.
	Trace        [16]byte
	Span, Parent uint64
	Sampled      bool
}

// Root tells whether there is no trace yet.
func (c *Context) Root() bool { return c.Trace == [16]byte{} }

func (c *Context) high() uint64 { return binary.BigEndian.Uint64(c.Trace[:8]) }
func (c *Context) low() uint64  { return binary.BigEndian.Uint64(c.Trace[8:]) }

func (c *Context) setTrace(high, low uint64) {
	binary.BigEndian.PutUint64(c.Trace[:8], high)
	binary.BigEndian.PutUint64(c.Trace[8:], low)
}

// id is the trace in hexadecimal, of 16 digits if that is enough.
func (c *Context) id() string {
	if c.high() == 0 {
		return hex.EncodeToString(c.Trace[8:])
	}
	return hex.EncodeToString(c.Trace[:])
}

func hex16(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return hex.EncodeToString(b[:])
}

// newID is a random identifier, never 0. It is no secret.
func newID() uint64 {
	for {
		if n := rand.Uint64(); n != 0 { //nolint:gosec // see above
			return n
		}
	}
}

// parseHex reads 1 to 16 hexadecimal digits.
func parseHex(s string) (uint64, bool) {
	if len(s) == 0 || len(s) > 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil && s[0] != '+' && !strings.Contains(s, "_")
}

// parseTrace reads 1 to 32 hexadecimal digits, not all 0.
func (c *Context) parseTrace(s string) bool {
	high, ok := uint64(0), true
	if len(s) > 16 {
		high, ok = parseHex(s[:len(s)-16])
		s = s[len(s)-16:]
	}
	low, okLow := parseHex(s)
	c.setTrace(high, low)
	return ok && okLow && high|low != 0
}

// B3 reads the fields of Zipkin, the single one first. asked tells whether the
// caller has decided on sampling, even if there is no trace.
func B3(h *wire.Header) (c Context, asked bool) {
	if single, ok := h.Lookup("b3"); ok {
		if c, asked, ok = parseB3(single); ok {
			return c, asked
		}
	}
	sampled, asked := sampledField(h.Get("x-b3-sampled"))
	if h.Get("x-b3-flags") == "1" {
		sampled, asked = true, true
	}
	var many Context
	span, ok := parseHex(h.Get("x-b3-spanid"))
	if !ok || !many.parseTrace(h.Get("x-b3-traceid")) {
		return Context{Sampled: sampled}, asked
	}
	many.Span, many.Sampled = span, sampled
	if parent := h.Get("x-b3-parentspanid"); parent != "" {
		if many.Parent, ok = parseHex(parent); !ok {
			return Context{Sampled: sampled}, asked
		}
	}
	return many, asked
}

func sampledField(value string) (sampled, asked bool) {
	switch value {
	case "1", "true", "d":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// parseB3 reads `{trace}-{span}[-{sampled}[-{parent}]]`, or a sampling alone.
func parseB3(s string) (c Context, asked, ok bool) {
	if c.Sampled, asked = sampledField(s); asked {
		return c, true, true
	}
	const longest = len("01234567890123456789012345678901-0123456789012345-1-0123456789012345")
	if len(s) > longest {
		return Context{}, false, false // and costs nothing
	}
	parts := strings.Split(s, "-")
	if len(parts) < 2 || len(parts) > 4 || len(parts[0]) != 16 && len(parts[0]) != 32 || len(parts[1]) != 16 {
		return Context{}, false, false
	}
	if c.Span, ok = parseHex(parts[1]); !ok || !c.parseTrace(parts[0]) {
		return Context{}, false, false
	}
	if len(parts) > 2 {
		if c.Sampled, asked = sampledField(parts[2]); !asked {
			return Context{}, false, false
		}
	}
	if len(parts) > 3 {
		if c.Parent, ok = parseHex(parts[3]); !ok || len(parts[3]) != 16 {
			return Context{}, false, false
		}
	}
	return c, asked, true
}

// injectB3 hands the span on in Zipkin's fields.
func injectB3(c *Context, h *wire.Header) {
	h.Del("b3")
	h.Set("x-b3-traceid", c.id())
	h.Set("x-b3-spanid", hex16(c.Span))
	if c.Parent != 0 {
		h.Set("x-b3-parentspanid", hex16(c.Parent))
	} else {
		h.Del("x-b3-parentspanid")
	}
	sampled := "0"
	if c.Sampled {
		sampled = "1"
	}
	h.Set("x-b3-sampled", sampled)
}

// Traceparent reads W3C's traceparent (Trace Context, section 3.2); false if there is
// none that is right.
func Traceparent(h *wire.Header) (c Context, ok bool) {
	s, there := h.Lookup("traceparent")
	const size = len("00-00000000000000000000000000000000-0000000000000000-00")
	if !there || len(s) < size || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return c, false
	}
	if s[:2] == "ff" || s[:2] == "00" && len(s) != size || len(s) > size && s[size] != '-' {
		return c, false
	}
	if strings.ToLower(s[:size]) != s[:size] {
		return c, false
	}
	if _, ok = parseHex(s[:2]); !ok {
		return c, false
	}
	flags, okFlags := parseHex(s[53:55])
	if c.Span, ok = parseHex(s[36:52]); !ok || !okFlags || c.Span == 0 || !c.parseTrace(s[3:35]) {
		return Context{}, false
	}
	c.Sampled = flags&1 != 0
	return c, true
}

// injectTraceparent hands the span on as W3C has it. tracestate stays as it is.
func injectTraceparent(c *Context, h *wire.Header) {
	var b [55]byte
	text := append(b[:0], "00-"...)
	text = hex.AppendEncode(text, c.Trace[:])
	text = append(text, '-')
	var span [8]byte
	binary.BigEndian.PutUint64(span[:], c.Span)
	text = hex.AppendEncode(text, span[:])
	text = append(text, "-00"...)
	if c.Sampled {
		text[len(text)-1] = '1'
	}
	h.Set("traceparent", string(text))
}

// DatadogFields read the fields of Datadog, whose numbers are decimal; false if
// there are none that are right. asked tells whether a sampling priority is there.
func DatadogFields(h *wire.Header) (c Context, asked, ok bool) {
	low, err := strconv.ParseUint(h.Get("x-datadog-trace-id"), 10, 64)
	if err != nil || low == 0 {
		return c, false, false
	}
	if parent := h.Get("x-datadog-parent-id"); parent != "" {
		if c.Span, err = strconv.ParseUint(parent, 10, 64); err != nil {
			return Context{}, false, false
		}
	}
	high := uint64(0)
	for tag := range strings.SplitSeq(h.Get("x-datadog-tags"), ",") {
		if digits, is := strings.CutPrefix(tag, "_dd.p.tid="); is && len(digits) == 16 {
			if n, right := parseHex(digits); right {
				high = n
			}
		}
	}
	c.setTrace(high, low)
	if priority, err := strconv.Atoi(h.Get("x-datadog-sampling-priority")); err == nil {
		c.Sampled, asked = priority > 0, true
	}
	return c, asked, true
}

// injectDatadog hands the span on in Datadog's fields, and in W3C's. begun says that
// the trace is ours.
func injectDatadog(c *Context, begun bool, h *wire.Header) {
	h.Set("x-datadog-trace-id", strconv.FormatUint(c.low(), 10))
	h.Set("x-datadog-parent-id", strconv.FormatUint(c.Span, 10))
	priority := "0"
	if c.Sampled {
		priority = "1"
	}
	h.Set("x-datadog-sampling-priority", priority)
	tags := h.Get("x-datadog-tags")
	if begun && c.Sampled {
		tags += "," + decisionTag + "=" + decidedHere
	}
	if c.high() != 0 && !strings.Contains(tags, "_dd.p.tid=") {
		tags += ",_dd.p.tid=" + hex16(c.high())
	}
	if tags != "" {
		h.Set("x-datadog-tags", strings.TrimPrefix(tags, ","))
	}
	injectTraceparent(c, h)
}
