package extension

import (
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/plugins"
)

// Use is what the layers of one use of a plugin have in common.
type Use struct {
	// Plugin is its name.
	Plugin string
	// Open lets an exchange go on though the plugin has failed.
	Open bool
	// MaxBody is how large request bodies may be, in bytes, which the plugin is
	// given; 0 gives none.
	MaxBody int
	// Normalize puts a path with its query into normal form.
	Normalize func(path string) (string, error)
	// Counters of the plugin, and Log; never nil.
	Counters *Counters
	Log      *slog.Logger

	notes notes
}

// Counters are of one plugin, over all its uses. They may be read at any time.
type Counters struct {
	// FailedClosed exchanges were answered with 503, FailedOpen ones went on
	// without the plugin.
	FailedClosed, FailedOpen atomic.Int64
	// UnknownConsumers were named by the plugin, and not by the configuration.
	UnknownConsumers atomic.Int64
}

// noteEvery is how often a use tells of failures.
const noteEvery = 5 * time.Second

// notes bounds log lines.
type notes struct {
	last atomic.Int64 // Unix time in nanoseconds
	kept atomic.Int64 // lines that were not written since
}

// next tells whether a line may be written, and how many were not.
func (n *notes) next() (kept int64, ok bool) {
	now, last := time.Now().UnixNano(), n.last.Load()
	if last != 0 && now-last < int64(noteEvery) || !n.last.CompareAndSwap(last, now) {
		n.kept.Add(1)
		return 0, false
	}
	return n.kept.Swap(0), true
}

// errAnswer is in the errors for answers that the host could not know to be
// wrong.
var errAnswer = errors.New("plugin broke the protocol")

// ended decides what a plugin's error makes of an exchange: nil lets it go on.
func (u *Use) ended(x *wire.Exchange, err error) error {
	if reason := x.Aborted(); reason != nil {
		return wire.Aborted(reason)
	}
	if refusal, ok := errors.AsType[*plugins.Refusal](err); ok {
		return refused(refusal)
	}
	if kept, ok := u.notes.next(); ok {
		u.Log.Warn("plugin failed", "plugin", u.Plugin, "api", x.API, "route", x.Route, "open", u.Open, "err", err, "more_before", kept)
	}
	if u.Open {
		u.Counters.FailedOpen.Add(1)
		return nil
	}
	u.Counters.FailedClosed.Add(1)
	return &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagPlugin,
		Text: "this request cannot be handled now, try later", Err: err,
	}
}

// refused is what a plugin wants a client to hear.
func refused(r *plugins.Refusal) *wire.Fault {
	fault := &wire.Fault{Status: r.Status, Flag: wire.FlagDenied, Text: r.Text}
	if r.Status == http.StatusUnauthorized {
		fault.Flag = wire.FlagUnauthenticated
	}
	for _, f := range r.Header {
		fault.Header = append(fault.Header, wire.Field{Name: f.Name, Value: f.Value})
	}
	return fault
}
