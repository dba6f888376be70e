// Package wire is the small waist of the L7 path: everything between a
// downstream and an upstream codec is a [Service], everything wrapped around
// one is a [Layer].
//
//	downstream codec ── Exchange, Request ──▶ layer ▶ layer ▶ router ▶ cluster ── upstream codec
//	                 ◀──────────── Response ─────────────────────────────────
//
// # Lifetimes
//
// A Request, a Response, their Headers and every string in them die with the
// exchange: a codec may keep them in a buffer that it uses again for the next
// one. What is kept longer (a cache, a mirror, a log, a hedge) is cloned first,
// with strings.Clone or [Header.Clone]. The same holds for the Exchange itself,
// save for one whose [Exchange.Context] was taken: that one is not used again.
//
// # Alternatives not taken
//
// http.Handler: its ResponseWriter inverts the flow, so that every layer that
// looks at a response must wrap it, and its maps of slices cost about ten
// allocations per request. A filter chain with callbacks (as Envoy's) needs no
// goroutine per stream but turns each filter into a state machine; goroutines
// are cheap in Go and a plain call is easier to read.
package wire
