package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"
)

// handler serves the interface of one source.
type handler struct {
	source  Source
	metrics http.Handler
	start   time.Time
}

func newHandler(o *Options) http.Handler {
	h := &handler{source: o.Source, metrics: o.Metrics, start: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", h.ready)
	mux.HandleFunc("GET /server_info", h.serverInfo)
	mux.HandleFunc("GET /stats", h.stats)
	if h.metrics != nil {
		mux.Handle("GET /metrics", h.metrics)
		mux.Handle("GET /stats/prometheus", h.metrics)
	}
	return mux
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if err := h.source.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "LIVE")
}

func (h *handler) serverInfo(w http.ResponseWriter, _ *http.Request) {
	info := map[string]any{
		"version": "serai " + Version(), "state": "LIVE", "uptime_current_epoch": time.Since(h.start).Round(time.Second).String(),
	}
	if err := h.source.Ready(); err != nil {
		info["state"], info["reason"] = "PRE_INITIALIZING", err.Error()
		if err.Error() == "draining" {
			info["state"] = "DRAINING"
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(info) //nolint:errcheck // the client is gone
}

func (h *handler) stats(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("format") == "prometheus" && h.metrics != nil {
		h.metrics.ServeHTTP(w, r)
		return
	}
	filter, err := regexp.Compile(r.URL.Query().Get("filter"))
	if err != nil {
		http.Error(w, "filter: "+err.Error(), http.StatusBadRequest)
		return
	}
	for name, value := range h.source.Stats() {
		if filter.MatchString(name) {
			fmt.Fprintf(w, "%s: %d\n", name, value)
		}
	}
}

// Version is that of the module that was built; "" if it is not known.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
