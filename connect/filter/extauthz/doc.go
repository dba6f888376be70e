// Package extauthz asks an external service whether a request, or a connection,
// may pass (xDS: filters.http.ext_authz.v3 and filters.network.ext_authz.v3; the
// protocol is envoy.service.auth.v3). It is the wall around that protocol's
// protobuf.
//
//	request ── question ──▶ service (a cluster, by gRPC or HTTP) ── verdict ──▶ applied to the request, or a denial
//
// What a service answers is not trusted with the framing of messages: a field
// that could not be written is an error (500), as with Envoy's validate_mutations.
package extauthz
