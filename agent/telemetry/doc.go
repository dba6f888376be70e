// Package telemetry tells what happens: metrics, the access log, and Serai's own
// log.
//
//	exchange, connection ── end ── Observer ─┬─ series, histograms (atomics) ──────────┐
//	                                         └─ a line, encoded ─▶ buffer ─ Run ─▶ file │
//	listeners, clusters, xDS: their own atomics ── Samples, at each scrape ────────────┴─ Handler ─▶ Prometheus
//
// Counting finds its counters in maps that are never changed but replaced, so it
// takes no lock and no memory. A line is encoded by the goroutine that served the
// exchange, into a buffer of bounded size; one goroutine writes that out. So a
// slow disk costs lines, which are counted, and never an exchange.
//
// # Alternatives not taken
//
// Prometheus's own CounterVec and HistogramVec: finding the children costs about
// three times what all of an exchange's counting costs here, and nothing bounds how
// many there are. Handles per route, resolved when a snapshot is compiled: they would have to
// be made for every consumer, code and flag that might come, or be looked up for
// these all the same; what is resolved then is the place, with its direction and
// service. Counters per CPU: at the rates that one process serves, adding to a
// shared line is not what it costs.
package telemetry
