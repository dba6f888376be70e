package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	preface       = http2.ClientPreface
	frameHead     = 9        // bytes in front of each payload
	maxFrame      = 16 << 10 // the payload that we take; the least that may be allowed
	initialWindow = 65535    // RFC 9113 section 6.9.2
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1
	// settingConnectProtocol is RFC 8441's.
	settingConnectProtocol = http2.SettingEnableConnectProtocol
)

// parseHead reads the nine bytes in front of a payload.
func parseHead(b []byte) http2.FrameHeader {
	return http2.FrameHeader{
		Length:   uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		Type:     http2.FrameType(b[3]),
		Flags:    http2.Flags(b[4]),
		StreamID: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

// appendFrame writes the nine bytes in front of a payload.
func appendFrame(b []byte, length int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendUint32(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

func appendReset(b []byte, id uint32, code http2.ErrCode) []byte {
	return appendUint32(appendFrame(b, 4, http2.FrameRSTStream, 0, id), uint32(code))
}

func appendUpdate(b []byte, id uint32, n int64) []byte {
	return appendUint32(appendFrame(b, 4, http2.FrameWindowUpdate, 0, id), uint32(n))
}

func appendPing(b []byte, flags http2.Flags, data [8]byte) []byte {
	return append(appendFrame(b, 8, http2.FramePing, flags, 0), data[:]...)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, reason string) []byte {
	b = appendFrame(b, 8+len(reason), http2.FrameGoAway, 0, 0)
	return append(appendUint32(appendUint32(b, last), uint32(code)), reason...)
}

func appendSettings(b []byte, settings ...http2.Setting) []byte {
	b = appendFrame(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = appendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
	}
	return b
}

// unpad cuts padding off a payload whose frame says that there is some.
func unpad(h http2.FrameHeader, p []byte) ([]byte, error) {
	if !h.Flags.Has(http2.FlagDataPadded) {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, connError{http2.ErrCodeProtocol, "padding longer than the frame"}
	}
	return p[1 : len(p)-int(p[0])], nil
}
