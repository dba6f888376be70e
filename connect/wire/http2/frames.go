package http2

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// maxContinuations bounds the frames of one header block.
const maxContinuations = 64

// frame takes one frame, its nine bytes included. The lock is held.
func (l *link) frame(h http2.FrameHeader, frame []byte) error {
	p := frame[frameHead:]
	switch {
	case !l.settled && (h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck)):
		return connError{http2.ErrCodeProtocol, "the first frame is not SETTINGS"}
	case l.pending.id != 0 && (h.Type != http2.FrameContinuation || h.StreamID != l.pending.id):
		return connError{http2.ErrCodeProtocol, "a header block was interrupted"}
	}
	switch h.Type {
	case http2.FrameData:
		return l.data(h, p)
	case http2.FrameHeaders:
		return l.headers(h, p)
	case http2.FrameContinuation:
		return l.continuation(h, p)
	case http2.FrameWindowUpdate:
		return l.update(h, p)
	case http2.FrameRSTStream:
		return l.resetFrame(h, p)
	case http2.FramePriority, http2.FrameSettings, http2.FramePing, http2.FrameGoAway, http2.FramePushPromise:
		return l.rare(h, frame)
	default: // RFC 9113 section 5.5
		return l.moveless(nil)
	}
}

// moveless accounts for a frame that moves nothing; flood, if not nil, counts floods
// of its kind.
func (l *link) moveless(flood *atomic.Uint64) error {
	if !l.control.spend(l.lastRead, 1) {
		if flood != nil {
			flood.Add(1)
		}
		return connError{http2.ErrCodeEnhanceYourCalm, "too many frames that move nothing"}
	}
	return nil
}

// misused accounts for a stream that the other side has cut off or spoilt; s is nil if
// it is no longer. One that we have opened has cost a request of ours, and those who
// share the connection are not to pay for it.
func (l *link) misused(s *stream) error {
	if s != nil && s.trip != nil {
		return nil
	}
	if !l.resets.spend(l.lastRead, 1) {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many resets"}
	}
	return nil
}

// streamError answers what is wrong with one stream; s may be nil.
func (l *link) streamError(id uint32, s *stream, code http2.ErrCode, err error) error {
	if s != nil {
		l.reset(s, code, err)
		l.role.cut(s)
	} else {
		l.sendReset(id, code)
		l.closed.add(id, true)
	}
	return l.misused(s)
}

func (l *link) data(h http2.FrameHeader, p []byte) error {
	id, size := h.StreamID, int64(h.Length)
	s := l.streams[id]
	switch {
	case id == 0:
		return connError{http2.ErrCodeProtocol, "DATA on stream 0"}
	case s == nil && l.role.unopened(id):
		return connError{http2.ErrCodeProtocol, "DATA on an idle stream"}
	}
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	if size > l.recvLeft {
		return connError{http2.ErrCodeFlowControl, "more DATA than the connection's window allows"}
	}
	l.recvLeft -= size
	ended := h.Flags.Has(http2.FlagDataEndStream)
	if len(p) > 0 {
		l.control.earn(10)
	} else if !ended {
		if err := l.moveless(&l.frames.EmptyFlood); err != nil {
			return err
		}
	}
	switch {
	case s == nil:
		l.free(size)
		if found, ours := l.closed.find(id); found && ours {
			return nil // on its way when we cut it off
		}
		return l.streamError(id, nil, http2.ErrCodeStreamClosed, nil)
	case s.remoteDone:
		l.free(size)
		return l.streamError(id, s, http2.ErrCodeStreamClosed, errMalformed)
	case s.trip != nil && !s.trip.headed:
		l.free(size)
		return l.streamError(id, s, http2.ErrCodeProtocol, errMalformed)
	case size > s.recvLeft:
		l.free(size)
		return l.streamError(id, s, http2.ErrCodeFlowControl, errMalformed)
	}
	s.recvLeft -= size
	if padding := size - int64(len(p)); padding > 0 {
		l.free(padding)
		s.free(padding)
	}
	if s.left >= 0 {
		if s.left -= int64(len(p)); s.left < 0 {
			l.free(int64(len(p)))
			return l.streamError(id, s, http2.ErrCodeProtocol, errTooLong)
		}
	}
	s.arrive(p)
	if ended {
		return l.remoteEnd(s)
	}
	return nil
}

// remoteEnd is the other side's END_STREAM.
func (l *link) remoteEnd(s *stream) error {
	if s.left > 0 {
		return l.streamError(s.id, s, http2.ErrCodeProtocol, errTooShort)
	}
	s.remoteDone = true
	s.wake()
	if s.localDone {
		l.end(s, nil, false)
	}
	return nil
}

func (l *link) headers(h http2.FrameHeader, p []byte) error {
	if h.StreamID == 0 {
		return connError{http2.ErrCodeProtocol, "HEADERS on stream 0"}
	}
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	bad := breach("")
	if h.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return connError{http2.ErrCodeFrameSize, "HEADERS too short for its priority"}
		}
		if binary.BigEndian.Uint32(p)&maxStreamID == h.StreamID {
			bad = errSelfDepend
		}
		p = p[5:]
	}
	ended := h.Flags.Has(http2.FlagHeadersEndStream)
	if h.Flags.Has(http2.FlagHeadersEndHeaders) {
		l.control.earn(10)
		return l.role.head(h.StreamID, p, ended, bad)
	}
	l.pending.id, l.pending.ended, l.pending.bad, l.pending.frames = h.StreamID, ended, bad, 0
	l.pending.since = l.lastRead
	l.pending.p = bytes.Clone(p)
	l.remindPending()
	return nil
}

func (l *link) continuation(h http2.FrameHeader, p []byte) error {
	b := &l.pending
	if b.id == 0 {
		return connError{http2.ErrCodeProtocol, "CONTINUATION without HEADERS"}
	}
	b.frames++
	if b.frames > maxContinuations || len(b.p)+len(p) > l.bounds.MaxHeaderBytes {
		return connError{http2.ErrCodeEnhanceYourCalm, "header block too large"}
	}
	b.p = append(b.p, p...)
	if !h.Flags.Has(http2.FlagContinuationEndHeaders) {
		return nil
	}
	p = b.p
	b.id, b.since, b.p = 0, time.Time{}, nil
	return l.role.head(h.StreamID, p, b.ended, b.bad)
}

// takeTrailer takes the trailers of s.
func (l *link) takeTrailer(s *stream, p []byte, ended bool, bad breach) error {
	if s.ex != nil {
		l.frames.Trailers.Add(1)
	}
	l.block.begin(blockTrailer, &s.trailer, l.bounds)
	defer l.block.forget()
	if err := l.decode(p); err != nil {
		return err
	}
	switch {
	case bad != "":
	case l.block.tooLarge != "":
		bad = l.block.tooLarge
	case l.block.problem != "":
		bad = l.block.problem
	case !ended:
		bad = errBadTrailer
	default:
		return l.remoteEnd(s)
	}
	return l.streamError(s.id, s, http2.ErrCodeProtocol, bad)
}

func (l *link) update(h http2.FrameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, "WINDOW_UPDATE is not of 4 bytes"}
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if err := l.moveless(&l.frames.UpdateFlood); err != nil {
		return err
	}
	if h.StreamID == 0 {
		if n == 0 {
			return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
		}
		if l.sendLeft += n; l.sendLeft > maxWindow {
			return connError{http2.ErrCodeFlowControl, "the connection's window is too large"}
		}
		l.opened = l.lastRead
		l.wakeWriters()
		return nil
	}
	s := l.streams[h.StreamID]
	switch {
	case s == nil && l.role.unopened(h.StreamID):
		return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
	case s == nil:
		return nil
	case n == 0:
		return l.streamError(s.id, s, http2.ErrCodeProtocol, errMalformed)
	}
	if s.sendLeft += n; s.sendLeft > maxWindow {
		return l.streamError(s.id, s, http2.ErrCodeFlowControl, errMalformed)
	}
	s.wake()
	return nil
}

func (l *link) resetFrame(h http2.FrameHeader, p []byte) error {
	s := l.streams[h.StreamID]
	switch {
	case len(p) != 4:
		return connError{http2.ErrCodeFrameSize, "RST_STREAM is not of 4 bytes"}
	case h.StreamID == 0:
		return connError{http2.ErrCodeProtocol, "RST_STREAM on stream 0"}
	case s == nil && l.role.unopened(h.StreamID):
		return connError{http2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
	case s == nil:
		return l.moveless(nil)
	}
	l.frames.ResetsRead.Add(1)
	l.end(s, &ResetError{binary.BigEndian.Uint32(p)}, false)
	l.role.cut(s)
	return l.misused(s)
}
