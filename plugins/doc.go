// Package plugins is what the author of a plugin imports. A plugin is a program
// of its own: it authenticates requests at the edge, or changes requests and
// responses, without being linked into Serai and without being able to bring
// Serai down.
//
//	func main() {
//		plugins.Serve(plugins.Plugin{Name: "team-header", Version: "1.0.0", New: newTeamHeader})
//	}
//
// The operator names the binary with its checksum, and uses it where the
// configuration says so; each use has settings of its own:
//
//	client ─▶ edge: layer ─▶ host: deadline, bounded concurrency ─▶ gRPC over a unix socket, mutual TLS
//	                                                                     │
//	       answer checked, or the route's fail mode ◀── plugin process: New(settings) ─▶ Authenticate, Transform...
//
// # What an author can rely on
//
// Plugin.New is called once for each use, and what it returns is called by many
// goroutines at once. The context of a call ends when Serai no longer waits: at
// the deadline of the configuration, or when the client has gone. A call that
// goes on after that costs the plugin one of a bounded number of places; when
// they are all taken the process is killed and started anew.
//
// A process may be killed at any time, and state in memory is lost with it. A
// plugin for which that matters (as one that remembers what it has seen) must
// not trust what happened before it was started.
//
// Standard output and standard error end up in the log of Serai, as does the
// logger that New is given. Standard input belongs to Serve: it tells that Serai
// has gone. The environment is what the configuration gives, nothing is
// inherited.
//
// # What is checked
//
// Answers are checked before they touch a request: names of fields are
// lower-case tokens, values have no control characters, fields that frame the
// message or name the connection (content-length, host, connection, ...) and
// those by which the edge vouches for the caller (x-serai-*) cannot be changed,
// a path begins with "/" and has neither spaces nor a fragment, a status is one
// that fits. An answer that breaks a rule is dropped as a whole, and counts as a
// failure.
//
// # Alternatives not taken
//
// WebAssembly would be one process less, and a plugin could then be neither
// written in any language nor debugged as a program. Go's own plugin package
// binds a plugin to one build of Serai. An HTTP call to a service (as Envoy's
// ext_authz) needs somebody to run that service.
package plugins
