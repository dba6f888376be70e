package http2

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 4.2.2 wants it; it protects nothing
	"encoding/base64"
	"net/http"

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

// offerKey adds a key to a request, and returns it. What a client has sent under that
// name means nothing.
func offerKey(h *wire.Header) string {
	var random [16]byte
	rand.Read(random[:])
	key := base64.StdEncoding.EncodeToString(random[:])
	h.Set(keyField, key)
	return key
}

// checkAnswer tells whether an upstream that has switched has understood key, if there
// is one (RFC 6455 section 4.1).
func checkAnswer(key string, resp *wire.Response) error {
	if key == "" || resp.Header.Get(acceptField) == acceptKey(key) {
		return nil
	}
	return &wire.Fault{
		Status: http.StatusBadGateway, Flag: wire.FlagUpstreamProtocol, Text: "upstream gave a wrong answer to the key of a websocket",
	}
}

// acceptKey is the answer to a key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
