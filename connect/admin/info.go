package admin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Info is what a process tells of itself.
type Info struct {
	// Envoy is the version of Envoy that it stands for, as x.y.z; "" for none.
	Envoy string
	// Node is who it is.
	Node Node
	// ConfigPath is its bootstrap file.
	ConfigPath string
	// DrainTime is how long a graceful drain takes.
	DrainTime time.Duration
	// Runtime are the entries of the static layers of the bootstrap, Layers their
	// names.
	Runtime map[string]string
	Layers  []string
}

// Node is who a process is.
type Node struct {
	ID, Cluster string
	Metadata    map[string]any
}

func writeJSON(w http.ResponseWriter, value any) {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n')) //nolint:errcheck // the client is gone
}

func (h *handler) serverInfo(w http.ResponseWriter, _ *http.Request) {
	name, reason := h.state()
	up := strconv.Itoa(int(time.Since(h.start).Seconds())) + "s"
	version := "serai " + Version()
	if h.Info.Envoy != "" {
		version = strings.Repeat("0", 40) + "/" + h.Info.Envoy + "/serai-" + Version() + "/RELEASE/Go"
	}
	info := map[string]any{
		"version": version, "state": name, "uptime_current_epoch": up, "uptime_all_epochs": up, "hot_restart_version": "disabled",
		"command_line_options": map[string]any{
			"concurrency": runtime.GOMAXPROCS(0), "config_path": h.Info.ConfigPath, "log_level": h.level(), "mode": "Serve",
			"drain_time": strconv.Itoa(int(h.Info.DrainTime.Seconds())) + "s", "disable_hot_restart": true,
		},
	}
	if h.Info.Node.ID != "" {
		node := map[string]any{"id": h.Info.Node.ID, "cluster": h.Info.Node.Cluster, "user_agent_name": "envoy"}
		if h.Info.Node.Metadata != nil {
			node["metadata"] = h.Info.Node.Metadata
		}
		info["node"] = node
	}
	if reason != nil && h.Info.Envoy == "" { // Envoy's own has no such field
		info["reason"] = reason.Error()
	}
	writeJSON(w, info)
}

func (h *handler) memory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text := func(n uint64) string { return strconv.FormatUint(n, 10) }
	writeJSON(w, map[string]string{
		"allocated": text(m.HeapAlloc), "heap_size": text(m.HeapSys), "pageheap_unmapped": text(m.HeapReleased),
		"pageheap_free": text(m.HeapIdle - m.HeapReleased), "total_thread_cache": text(m.MCacheInuse), "total_physical_bytes": text(m.Sys - m.HeapReleased),
	})
}

func (h *handler) runtime(w http.ResponseWriter, _ *http.Request) {
	entries := map[string]any{}
	for key, value := range h.Info.Runtime {
		entries[key] = map[string]any{"final_value": value, "layer_values": []string{value}}
	}
	writeJSON(w, map[string]any{"entries": entries, "layers": append([]string{}, h.Info.Layers...)})
}

// level is that of the log by Envoy's names.
func (h *handler) level() string {
	if h.Level == nil {
		return "info"
	}
	switch level := h.Level.Level(); {
	case level > slog.LevelError:
		return "off"
	case level >= slog.LevelError:
		return "error"
	case level >= slog.LevelWarn:
		return "warning"
	case level >= slog.LevelInfo:
		return "info"
	default:
		return "debug"
	}
}

// setLevel sets the level of the log, which is one for all parts.
func (h *handler) setLevel(name string) bool {
	level, ok := map[string]slog.Level{
		"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn,
		"error": slog.LevelError, "critical": slog.LevelError, "off": slog.LevelError + 100,
	}[name]
	if ok {
		h.Level.Set(level)
	}
	return ok
}

// logging shows the level, and sets it: by level, or by paths or a name of one
// of Envoy's parts, which all are one log here.
func (h *handler) logging(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	names := []string{}
	for name, values := range query {
		for _, value := range values {
			if name != "paths" {
				names = append(names, value)
				continue
			}
			for part := range strings.SplitSeq(value, ",") {
				_, level, _ := strings.Cut(part, ":")
				names = append(names, level)
			}
		}
	}
	for _, name := range names {
		if !h.setLevel(name) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "error: unknown logger level\n\nusage: /logging?<name>=<level> (change single level)\n"+
				"usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"+
				"usage: /logging?level=<level> (change all levels)\nlevels: trace debug info warning error critical off \n")
			break
		}
	}
	fmt.Fprintf(w, "active loggers:\n  serai: %s\n\n", h.level())
}
