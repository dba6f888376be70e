// Package admin is the operator's HTTP interface of a data plane: whether it is
// ready, and what it has counted. Paths and texts are Envoy's.
//
//	GET /ready        200 LIVE, or 503 with the reason
//	GET /server_info  version and state, JSON
//	GET /stats        one counter a line; ?filter=REGEX
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"
)

// Source is what the interface tells about.
type Source interface {
	// Ready returns nil if traffic should be sent here, else the reason.
	Ready() error
	// Stats yields counters by name.
	Stats() iter.Seq2[string, int64]
}

// Server is a bound admin interface; a nil Server is none.
type Server struct {
	listener net.Listener
	server   *http.Server
}

// Listen binds address. "" gives a nil Server.
func Listen(address string, source Source, log *slog.Logger) (*Server, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // no address, no server: its methods do nothing
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin interface: %w", err)
	}
	log.Info("admin interface", "address", listener.Addr().String())
	return &Server{
		listener: listener,
		server: &http.Server{
			Handler: handler(source), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		},
	}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { s.server.Close() })
	defer stop()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin interface: %w", err)
	}
	return nil
}

func handler(source Source) http.Handler {
	mux := http.NewServeMux()
	start := time.Now()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := source.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "LIVE")
	})
	mux.HandleFunc("GET /server_info", func(w http.ResponseWriter, _ *http.Request) {
		info := map[string]any{"version": version(), "state": "LIVE", "uptime_current_epoch": time.Since(start).Round(time.Second).String()}
		if err := source.Ready(); err != nil {
			info["state"], info["reason"] = "PRE_INITIALIZING", err.Error()
			if err.Error() == "draining" {
				info["state"] = "DRAINING"
			}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(info) //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		filter, err := regexp.Compile(r.URL.Query().Get("filter"))
		if err != nil {
			http.Error(w, "filter: "+err.Error(), http.StatusBadRequest)
			return
		}
		for name, value := range source.Stats() {
			if filter.MatchString(name) {
				fmt.Fprintf(w, "%s: %d\n", name, value)
			}
		}
	})
	return mux
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return "serai " + info.Main.Version
	}
	return "serai"
}
