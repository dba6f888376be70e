package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// timeOperator are moments and durations. Durations are whole milliseconds.
func timeOperator(name string) (definition, bool) {
	start := func(in *Input) time.Time { return in.Exchange.Start }
	now := func(*Input) time.Time { return time.Now() }
	switch name {
	case "START_TIME":
		return moment(start, false)
	case "START_TIME_LOCAL":
		return moment(start, true)
	case "EMIT_TIME":
		return moment(now, false)
	case "EMIT_TIME_LOCAL":
		return moment(now, true)
	case "DURATION":
		return span(point("DS_RX_BEG"), finished)
	case "REQUEST_DURATION":
		return span(point("DS_RX_BEG"), point("DS_RX_END"))
	case "REQUEST_TX_DURATION":
		return span(point("DS_RX_BEG"), point("US_TX_END"))
	case "RESPONSE_DURATION":
		return span(point("DS_RX_BEG"), point("US_RX_BEG"))
	case "RESPONSE_TX_DURATION":
		return span(point("US_RX_BEG"), point("DS_TX_END"))
	case "UPSTREAM_CONNECTION_POOL_READY_DURATION":
		return span(point("US_CX_BEG"), point("US_CX_END"))
	case "DOWNSTREAM_HANDSHAKE_DURATION", "ROUNDTRIP_DURATION":
		return never()
	case "COMMON_DURATION":
		return definition{syntax: wantsArg, make: commonDuration}, true
	}
	return definition{}, false
}

func moment(of func(in *Input) time.Time, local bool) (definition, bool) {
	return definition{syntax: takesArg, make: func(arg string) (operator, error) {
		c, err := newClock(arg, local)
		if err != nil {
			return nil, err
		}
		return clockOperator(c, of), nil
	}}, true
}

// clockOperator writes a moment; the zero time is not known.
func clockOperator(c *clock, of func(in *Input) time.Time) operator {
	return func(dst []byte, in *Input) ([]byte, kind) {
		t := of(in)
		if t.IsZero() {
			return dst, absent
		}
		return c.append(dst, t), text
	}
}

// Duration is how long the exchange took, or has taken so far.
func (in *Input) Duration() time.Duration { return finished(in).Sub(in.Exchange.Start) }

// instant is a point of an exchange's life; the zero time if it was not reached.
type instant func(in *Input) time.Time

// finished is the end, or now as long as it goes on.
func finished(in *Input) time.Time {
	if in.Exchange.Finish.IsZero() {
		return time.Now()
	}
	return in.Exchange.Finish
}

func span(from, to instant) (definition, bool) {
	return plainly(between(from, to, time.Millisecond))
}

func between(from, to instant, unit time.Duration) operator {
	return func(dst []byte, in *Input) ([]byte, kind) {
		begin, end := from(in), to(in)
		if begin.IsZero() || end.IsZero() {
			return dst, absent
		}
		return strconv.AppendInt(dst, int64(max(0, end.Sub(begin))/unit), 10), number
	}
}

// commonDuration reads `FROM:TO:UNIT`, or without the unit, which is ms then.
func commonDuration(arg string) (operator, error) {
	parts := strings.Split(arg, ":")
	if len(parts) == 2 {
		parts = append(parts, "ms")
	}
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is not of the form FROM:TO or FROM:TO:UNIT", arg)
	}
	from, to := point(parts[0]), point(parts[1])
	switch parts[2] {
	case "ms":
		return between(from, to, time.Millisecond), nil
	case "us":
		return between(from, to, time.Microsecond), nil
	case "ns":
		return between(from, to, time.Nanosecond), nil
	}
	return nil, fmt.Errorf("%q is none of ms, us and ns", parts[2])
}

// point names the points that COMMON_DURATION knows. Another name is one that a
// filter would have noted, which none of ours does.
func point(name string) instant {
	switch name {
	case "DS_RX_BEG":
		return func(in *Input) time.Time { return in.Exchange.Start }
	case "DS_RX_END":
		return uploaded
	case "US_CX_BEG":
		return attempted(func(in *Input) time.Time { return in.attempt().Begin })
	case "US_CX_END", "US_HS_END", "US_TX_BEG":
		return attempted(func(in *Input) time.Time { return in.attempt().Connected })
	case "US_TX_END":
		return attempted(func(in *Input) time.Time {
			a := in.attempt()
			if !a.Connected.IsZero() && a.Uploaded.After(a.Connected) {
				return a.Uploaded
			}
			return a.Connected
		})
	case "US_RX_BEG":
		return attempted(func(in *Input) time.Time { return in.attempt().Head })
	case "US_RX_END":
		return attempted(func(in *Input) time.Time {
			if in.attempt().Head.IsZero() {
				return time.Time{}
			}
			return in.Exchange.Finish
		})
	case "DS_TX_BEG":
		return func(in *Input) time.Time { return in.Exchange.HeadSent }
	case "DS_TX_END":
		return func(in *Input) time.Time {
			if in.Exchange.HeadSent.IsZero() {
				return time.Time{}
			}
			return in.Exchange.Finish
		}
	}
	return func(*Input) time.Time { return time.Time{} }
}

func attempted(of instant) instant {
	return func(in *Input) time.Time {
		if in.attempt() == nil {
			return time.Time{}
		}
		return of(in)
	}
}

// uploaded is when all of the request had come.
func uploaded(in *Input) time.Time {
	if a := in.attempt(); a != nil && !a.Uploaded.IsZero() {
		return a.Uploaded
	}
	if in.request() == nil {
		return time.Time{}
	}
	return in.Exchange.Received()
}
