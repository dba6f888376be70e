// Package lua runs users' scripts on requests and responses (xDS:
// filters.http.lua.v3), by gopher-lua. It is the wall around that.
//
//	Filter ── a pool of VMs ── run: envoy_on_request(handle) ▶ next ▶ envoy_on_response(handle)
//
// A script is called on the goroutine of the exchange, and waits there for bodies
// and for calls of its own. Only bodyChunks is a coroutine: the script is resumed
// by whoever reads the body, chunk by chunk. A VM belongs to one run at a time, so
// globals are shared by requests that follow one another and by no two at once, as
// between Envoy's workers.
//
// A script is the operator's and is trusted as such, but a mistake in it must not
// take the process down: it has no files, processes or modules; its time is
// bounded, so is its memory, and an error lets the exchange go on as it is then.
//
// Alternative not taken: LuaJIT by cgo, as Envoy has it. It is several times as
// quick, and would end the static binary.
package lua
