// Package admin is the operator's HTTP interface of a process: whether it is
// ready, what it has counted, what is in force. Paths, texts and shapes are
// Envoy's, so that what was made for it works.
//
//	/ready                       200 LIVE, or 503 with the reason
//	/server_info /memory         version and state, JSON
//	/stats                       one number a line; ?filter=REGEX, ?format=json, ...
//	/metrics, /stats/prometheus  in Prometheus's formats
//	/config_dump /clusters /listeners /certs /runtime of a data plane
//	/help                        all there is
//
// By POST only: /reset_counters /logging /drain_listeners /healthcheck/fail
// /healthcheck/ok /reopen_logs /quitquitquit.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire/socket"
)

// Source is what the interface tells about.
type Source interface {
	// Ready returns nil if traffic should be sent here, else the reason.
	Ready() error
	// Stats yields counters by name.
	Stats() iter.Seq2[string, int64]
}

// Options of a Server.
type Options struct {
	// Address of the interface as host:port or unix:///path, "" for none.
	Address string
	// SharePort lets others of this user have the same port, of other addresses or
	// of all: with Nomad's gateways in host mode, listeners do.
	SharePort bool
	// AddressPath is a file to which the bound address is written, "" for none.
	AddressPath string
	// AccessLog is a file for a line on each request, "" for none.
	AccessLog string
	// Source is asked at each request; never nil.
	Source Source
	// Metrics serves /metrics; nil means that there is none.
	Metrics http.Handler
	// View shows what is counted by Envoy's names; nil if nothing is, and /stats
	// shows what Source counts.
	View *stats.View
	// Plane is what a data plane shows; nil for what is none.
	Plane   *Plane
	Actions Actions
	Info    Info
	// Level is that of the log, which /logging may set; nil if it cannot be set.
	Level *slog.LevelVar
	// Extra are further endpoints, by path.
	Extra map[string]Extra
}

// Extra is an endpoint of whoever has the interface. Like all others it must not
// change anything on a GET.
type Extra struct {
	// Help says in a line what it is for.
	Help string
	// Streams says that it answers for as long as it is asked; of all others a few are
	// served at a time.
	Streams bool
	// Post says that others hear of it, as of what changes something: GET may not. A few are
	// served at a time of these, too, and nothing else waits for them.
	Post bool
	http.Handler
}

// Server is a bound admin interface; a nil Server is none.
type Server struct {
	serving []served
	log     io.Closer // nil for none
}

// served is one address.
type served struct {
	listener net.Listener
	server   *http.Server
}

// Listen binds the address that o names. Without one it gives a nil Server.
func Listen(o Options, log *slog.Logger) (*Server, error) {
	s := &Server{}
	all := newHandler(&o)
	if o.AccessLog != "" && o.AccessLog != os.DevNull { // which is what Consul writes
		file, err := os.OpenFile(o.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, fmt.Errorf("admin interface: access log: %w", err)
		}
		all, s.log = logged(all, file), file
	}
	if o.Address != "" {
		network, address := "tcp", o.Address
		if path, ok := strings.CutPrefix(o.Address, "unix://"); ok {
			network, address = "unix", path
			if err := removeStale(path); err != nil {
				return nil, fmt.Errorf("admin interface: %w", err)
			}
		}
		var config net.ListenConfig
		if o.SharePort {
			config.Control = socket.ReusePort
		}
		if err := s.bind(&config, network, address, all); err != nil {
			return nil, errors.Join(fmt.Errorf("admin interface: %w%s", err, remedy(err)), s.close())
		}
		if o.AddressPath != "" {
			if err := os.WriteFile(o.AddressPath, []byte(s.Addresses()[0]), 0o644); err != nil {
				log.Error("the address of the admin interface cannot be written to its file", "err", err)
			}
		}
		log.Info("admin interface", "address", s.Addresses()[0])
	}
	if len(s.serving) == 0 {
		return nil, nil //nolint:nilnil // no address, no server: its methods do nothing
	}
	return s, nil
}

// remedy is what may help against an address that cannot be bound.
func remedy(err error) string {
	var form *net.AddrError
	switch {
	case errors.As(err, &form):
		return ": write it as host:port or unix:///path"
	case errors.Is(err, syscall.EADDRINUSE):
		return ": another process has it, give another address"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return ": give an address of this machine"
	}
	return ""
}

// removeStale removes the socket of a process that has ended without it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s: there is a file in the way that is no socket", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("%s: somebody else listens there", path), conn.Close())
	}
	return os.Remove(path)
}

func (s *Server) bind(config *net.ListenConfig, network, address string, handler http.Handler) error {
	listener, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return err
	}
	s.serving = append(s.serving, served{listener, &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}})
	return nil
}

// Addresses are those that are bound, the interface's own first.
func (s *Server) Addresses() []string {
	if s == nil {
		return nil
	}
	var all []string
	for _, one := range s.serving {
		all = append(all, one.listener.Addr().String())
	}
	return all
}

func (s *Server) close() error {
	var all error
	for _, one := range s.serving {
		all = errors.Join(all, one.listener.Close())
	}
	return all
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		for _, one := range s.serving {
			one.server.Close()
		}
	})
	defer stop()
	var running sync.WaitGroup
	errs := make([]error, len(s.serving))
	for i, one := range s.serving {
		running.Go(func() {
			if err := one.server.Serve(netutil.LimitListener(one.listener, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
				errs[i] = fmt.Errorf("admin interface at %s: %w", one.listener.Addr(), err)
			}
		})
	}
	running.Wait()
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}
