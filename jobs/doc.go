// Package jobs brings Serai onto Nomad: the job specs of its parts, and what is
// needed to look at them and to run them.
//
//	Spec (embedded) ─┐
//	file of the user ┼▶ File ──▶ Render             offline: the text with the values as defaults
//	standard input ──┘   │
//	                     └ Input ──▶ Client.Load    Nomad itself parses: a job
//	                                    ├▶ Check    Nomad validates, we advise
//	                                    ├▶ Plan     what Nomad would change
//	                                    └▶ Run      registers, and follows the deployment to its end
//
// A spec is an ordinary job file: all that is done to it is to give its
// variables values. So what is rendered can be read, kept and run by Nomad's own
// command line as well.
//
// # Alternatives not taken
//
//   - Nomad's own parser: it is not of its API, and Nomad's license is not ours.
//     Parsing is asked of the agent, which knows what its version takes.
//   - Text templates that generate jobs: a job file with variables is something
//     that users of Nomad know, and its tools work on it.
package jobs
