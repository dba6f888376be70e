// Package telemetry tells what happens: the access log, and Serai's own log.
//
//	exchange ── End ── one line, encoded ──▶ AccessLog's buffer ── Run ──▶ file
//
// A line is encoded by the goroutine that served the exchange, into a buffer of
// bounded size; one goroutine writes that out. So a slow disk costs lines, which
// are counted, and never an exchange.
package telemetry
