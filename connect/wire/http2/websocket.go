package http2

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 4.2.2 wants it; it protects nothing
	"encoding/base64"

	"github.com/serai-net/serai/connect/wire"
)

// websocket is the protocol that asks for a key in HTTP/1 and for none in HTTP/2
// (RFC 8441 section 5). So that either may stand on either side of us, requests and
// responses always have them in between.
const websocket = "websocket"

const (
	keyField    = "sec-websocket-key"
	acceptField = "sec-websocket-accept"
)

// offerKey adds a key to a request, if it has none.
func offerKey(h *wire.Header) {
	if h.Has(keyField) {
		return
	}
	var key [16]byte
	rand.Read(key[:])
	h.Add(keyField, base64.StdEncoding.EncodeToString(key[:]))
}

// acceptKey is the answer to a key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
