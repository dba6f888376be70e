// Package grammar is what the codecs of HTTP/1 and HTTP/2 agree on: which bytes
// may stand in a token, a field value, a target or an authority, and which
// fields are a connection's own (RFC 9110 sections 5.5, 5.6.2 and 7.6.1). What
// one codec reads the other can write, so both ask here.
package grammar
