// Package ads is the client of the delta ADS stream, the one channel by which
// Consul configures a proxy. It moves bytes: what is in a resource is for
// connect/xds/resource, what becomes of it for connect/xds.
//
//	dial ─▶ stream ─▶ subscribe to all (an empty list) ─▶ response ─▶ Handler ─▶ ACK
//	  ▲                                                        └─ undecodable ─▶ wait ─▶ NACK
//	  └── wait (jittered, by kind of error) ◀── end of stream
//
// What Consul wants of a client, by its behaviour:
//
//   - Every response is answered, also one without resources: with one of
//     clusters or endpoints unanswered, nothing else comes.
//   - A NACK makes it send the same again at once, so a NACK waits first, longer
//     each time.
//   - The node stands in the first request only.
//   - Versions that we have are told on a new stream, so that a reconnect costs
//     little and what has gone meanwhile is told as removed.
//   - Pings come at most every 30 s; more often than every 15 s ends the
//     connection.
//
// Every stream has a connection of its own, which ends with it. grpc's own
// reconnecting, with a backoff of up to two minutes, takes no part.
package ads
