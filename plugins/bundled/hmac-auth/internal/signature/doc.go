// Package signature verifies HTTP Message Signatures (RFC 9421) made with
// hmac-sha256, and the digest of a body (RFC 9530).
//
//	Signature-Input ─▶ parse ─▶ candidate ─▶ times ─▶ coverage ─▶ base, HMAC ─▶ digest ─▶ nonce ─▶ consumer
//
// Whatever a request can cause ends in a refusal of it, never in a failure of
// the plugin: a fail mode "open" must not be something that a client can choose.
//
// # Replays
//
// A nonce is remembered, for the key that it came with, as long as its signature
// is recent enough to be accepted. What a process before has seen is not known,
// so that signatures from before our begin are refused.
//
// # Alternatives not taken
//
// Remembering the signatures themselves needs no nonce, but takes two equal
// requests within a second for a replay. The component parameters sf, key, bs,
// tr and req, and @query-param, are refused: each is one more way to have two
// readings of one request, and whole fields and the whole query do as well.
package signature
