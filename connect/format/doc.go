// Package format is Envoy's language of command operators, in which access logs,
// values of header fields and tags of traces are written:
//
//	%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% took %DURATION% ms
//
// A text is compiled once, and appended to a buffer for each exchange without
// allocating. What is not known of an exchange is written "-".
//
//	Compile ── parse ── part, part, part ──▶ Text.Append(dst, in)
//	CompileJSON ── members, sorted ────────▶ JSON.Append(dst, in)
//
// An operator that does not exist is an error, as it is for Envoy: whoever owns
// the text decides what is refused for that.
//
// Alternative not taken: text/template. Each value would be boxed, and an
// operator's own syntax (REQ(X?Y):Z) would still have to be parsed.
package format
