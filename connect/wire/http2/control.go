package http2

import (
	"errors"

	"golang.org/x/net/http2"
)

// rare takes a frame of a kind that is not worth a parser of ours.
func (l *link) rare(h http2.FrameHeader, frame []byte) error {
	flood := &l.frames.ReplyFlood
	if h.Type == http2.FramePriority {
		flood = &l.frames.PriorityFlood
	}
	if err := l.moveless(flood); err != nil {
		return err
	}
	l.whole.Reset(frame)
	read, err := l.framer.ReadFrame()
	if err != nil {
		if stream, ok := errors.AsType[http2.StreamError](err); ok {
			return l.streamError(h.StreamID, l.streams[h.StreamID], stream.Code, errMalformed)
		}
		code := http2.ErrCodeProtocol
		if conn, ok := errors.AsType[http2.ConnectionError](err); ok {
			code = http2.ErrCode(conn)
		}
		return connError{code, "malformed " + h.Type.String()}
	}
	switch f := read.(type) {
	case *http2.SettingsFrame:
		return l.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			l.out = appendPing(l.out, http2.FlagPingAck, f.Data)
			return l.replies()
		}
		if l.pong != nil {
			l.pong(f.Data)
		}
	case *http2.GoAwayFrame:
		l.role.goAway(f.LastStreamID, f.ErrCode)
	case *http2.PriorityFrame:
		if f.StreamDep == h.StreamID {
			return l.streamError(h.StreamID, l.streams[h.StreamID], http2.ErrCodeProtocol, errSelfDepend)
		}
	case *http2.PushPromiseFrame:
		return connError{http2.ErrCodeProtocol, "PUSH_PROMISE"}
	}
	return nil
}

// replies bounds what we have to write only because we are asked to, by someone
// who does not read.
func (l *link) replies() error {
	const most = 1 << 20
	if len(l.out) > most {
		l.frames.ReplyFlood.Add(1)
		return connError{http2.ErrCodeEnhanceYourCalm, "replies are not read"}
	}
	return nil
}

func (l *link) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	l.settled = true
	if err := f.ForeachSetting(l.setting); err != nil {
		if conn, ok := errors.AsType[http2.ConnectionError](err); ok {
			return connError{http2.ErrCode(conn), "invalid setting"}
		}
		return err
	}
	for _, s := range l.streams {
		s.wake() // its window may have grown
	}
	for _, s := range l.waiting {
		s.wake()
	}
	l.out = appendFrame(l.out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return l.replies()
}

func (l *link) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		l.enc.setLimit(s.Val)
	case http2.SettingMaxFrameSize:
		l.sendFrame = int(min(s.Val, largeBuffer))
	case http2.SettingInitialWindowSize:
		more := int64(s.Val) - l.sendFirst
		l.sendFirst = int64(s.Val)
		for _, stream := range l.streams {
			if stream.sendLeft += more; stream.sendLeft > maxWindow {
				return connError{http2.ErrCodeFlowControl, "a stream's window is too large"}
			}
		}
	default:
		return l.role.setting(s)
	}
	return nil
}
