package admin

import (
	"fmt"
	"net/http"
)

// Actions are what an operator may have done, by POST. Those that are nil there
// are not.
type Actions struct {
	// Quit ends the process as a signal does.
	Quit func()
	// Health makes Ready fail, or no longer.
	Health func(ok bool)
	// Drain stops listeners: at once, or if graceful after clients were asked to
	// leave for a while, unless stay. inbound means those only.
	Drain func(graceful, inbound, stay bool)
	// Reopen opens log files again.
	Reopen func()
}

func (h *handler) actionPaths() {
	add := func(path, help string, f func(r *http.Request)) {
		h.paths[path] = endpoint{help, true, func(w http.ResponseWriter, r *http.Request) {
			f(r)
			fmt.Fprintln(w, "OK")
		}}
	}
	a := &h.Actions
	if a.Quit != nil {
		add("/quitquitquit", "exit the server", func(*http.Request) { a.Quit() })
	}
	if a.Health != nil {
		add("/healthcheck/fail", "cause the server to fail health checks", func(*http.Request) { a.Health(false) })
		add("/healthcheck/ok", "cause the server to pass health checks", func(*http.Request) { a.Health(true) })
	}
	if a.Drain != nil {
		add("/drain_listeners", "drain listeners; graceful, skip_exit, inboundonly", func(r *http.Request) {
			query := r.URL.Query()
			a.Drain(query.Has("graceful"), query.Has("inboundonly"), query.Has("skip_exit"))
		})
	}
	if a.Reopen != nil {
		add("/reopen_logs", "reopen access logs", func(*http.Request) { a.Reopen() })
	}
}
