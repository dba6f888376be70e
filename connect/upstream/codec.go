package upstream

import (
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire/http2"
)

// Codec is what connections of HTTP/2 have said, of one side.
type Codec struct {
	Errors, TooLarge, Unanswered, Refused               uint64
	resetsRead, resetsSent, partings, trailers, stalled uint64
	emptyFlood, priorityFlood, updateFlood, replyFlood  uint64
	streams                                             int64
}

// Add adds what was counted.
func (c *Codec) Add(f *http2.Frames) {
	c.Errors += f.Errors.Load()
	c.TooLarge += f.TooLarge.Load()
	c.Unanswered += f.Unanswered.Load()
	c.resetsRead += f.ResetsRead.Load()
	c.resetsSent += f.ResetsSent.Load()
	c.partings += f.Partings.Load()
	c.trailers += f.Trailers.Load()
	c.stalled += f.Stalled.Load()
	c.emptyFlood += f.EmptyFlood.Load()
	c.priorityFlood += f.PriorityFlood.Load()
	c.updateFlood += f.UpdateFlood.Load()
	c.replyFlood += f.ReplyFlood.Load()
	c.streams += f.Streams.Load()
}

// neverHTTP2 are Envoy's counters for what does not happen here: no field is dropped,
// no METADATA is read, and what we have to write is bounded in other ways.
const neverHTTP2 = "http2.dropped_headers_with_underscores http2.headers_cb_no_stream http2.metadata_empty_frames http2.outbound_flood" +
	" http2.requests_rejected_with_underscores_in_headers"

// Each yields it all by Envoy's names, which begin with "http2.", and tells whether to
// go on.
func (c *Codec) Each(yield func(stats.Stat) bool) (more bool) {
	for _, one := range []struct {
		name  string
		value uint64
	}{
		{"http2.rx_messaging_error", c.Errors},
		{"http2.header_overflow", c.TooLarge},
		{"http2.keepalive_timeout", c.Unanswered},
		{"http2.stream_refused_errors", c.Refused},
		{"http2.rx_reset", c.resetsRead},
		{"http2.tx_reset", c.resetsSent},
		{"http2.goaway_sent", c.partings},
		{"http2.trailers", c.trailers},
		{"http2.tx_flush_timeout", c.stalled},
		{"http2.inbound_empty_frames_flood", c.emptyFlood},
		{"http2.inbound_priority_frames_flood", c.priorityFlood},
		{"http2.inbound_window_update_frames_flood", c.updateFlood},
		{"http2.outbound_control_flood", c.replyFlood},
	} {
		if !yield(stats.Stat{Name: one.name, Value: int64(one.value)}) {
			return false
		}
	}
	for _, name := range []string{"http2.deferred_stream_close", "http2.outbound_control_frames_active", "http2.outbound_frames_active", "http2.pending_send_bytes"} {
		if !yield(stats.Stat{Name: name, Kind: stats.KindGauge}) {
			return false
		}
	}
	return yield(stats.Stat{Name: "http2.streams_active", Kind: stats.KindGauge, Value: c.streams}) && stats.Zeros("", neverHTTP2, yield)
}

// codecs yields what codecs have counted; each of them is there once it was used.
func (a *answers) codecs(yield func(stats.Stat) bool) (more bool) {
	if a.http1.Load() > 0 && !stats.Zeros("", NeverHTTP1, yield) {
		return false
	}
	if a.http2.Load() == 0 {
		return true
	}
	var codec Codec
	codec.Add(&a.frames)
	return codec.Each(yield)
}

// NeverHTTP1 are Envoy's counters of that codec, none of which happens here.
const NeverHTTP1 = "http1.dropped_headers_with_underscores http1.metadata_not_supported_error" +
	" http1.requests_rejected_with_underscores_in_headers http1.response_flood"
