// Package accesslog writes the access logs that xDS asks for.
//
//	mesh.AccessLog ── Sinks.Compile ──▶ Logs ── Log(exchange) ──▶ logfile.Writer, one per path
//	                                                       └────▶ collector, by OTLP, in batches
//
// Logs never wait: a line is appended to a bounded buffer, and what is not taken in
// time is dropped and counted. What a configuration asks for and we do not
// understand is told once, and no traffic is refused for it.
package accesslog
