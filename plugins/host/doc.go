// Package host runs plugins: processes of their own that speak gRPC over a unix
// socket, by go-plugin.
//
//	Set ── one worker for each Config ── session: process, connection
//	 │                                      │ ends: a new one after a pause, all uses opened again
//	 └── Plan: what a configuration wants   └── Instance: one use with its settings, what the edge calls
//
// # Two phases
//
// Prepare starts what a configuration wants and does not run yet, and opens its
// uses; whatever is wrong (file, checksum, protocol version, settings) is an
// error now, and nothing has changed. Commit puts it in force. A process with an
// equal Config, and a use with equal settings at the same place, live on with
// all they remember. What is not wanted any more is kept for a while, since
// exchanges that began before may still call it.
//
// # A plugin is not trusted with our life
//
// Its answers are checked (see package plugins) and bounded in size, calls have
// a deadline and a bounded number of places, its log lines have a bounded
// length. A process that has ended, whose connection broke or that does not
// answer pings is replaced, after a pause that doubles up to ten seconds.
// Meanwhile calls fail at once with [ErrUnavailable]; whether the request then
// fails is the fail mode of the use, which is the caller's business.
//
// # Nothing is left behind
//
// The plugin is a process group of its own, which is killed as a whole when its
// leader has ended. If we are killed, the kernel ends the plugin (on Linux), and
// so does package plugins when its standard input ends (everywhere). The
// socket's file is removed as soon as we are connected: nobody else can connect,
// and no file is left whoever dies first.
//
// # Alternatives not taken
//
// go-plugin can start processes and read their logs itself. It ties neither the
// process to our life nor the end of its children to its own, its parser of log
// lines panics on a line such as {"@message":1}, and its end waits without bound
// for a plugin that is stopped. So the process is ours (a runner.Runner), and
// handshake, mutual TLS and transport are go-plugin's.
package host
