// Package stack compiles what a configuration says about a filter chain into
// what serves it: a [wire.Service] for HTTP, a listen.Handler for TCP. Sidecar
// and edge share it.
package stack
