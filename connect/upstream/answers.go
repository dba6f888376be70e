package upstream

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// answers is what came of the exchanges with a cluster, for Envoy's counters.
type answers struct {
	// codes are those that exchanges ended with, retried those that a policy did not take.
	codes, retried stats.Codes
	times          stats.Histogram // until the end of the response
	// connected is how long connections took to be made.
	connected stats.Histogram

	// requests had a connection.
	requests, timeouts, resets, perTry, connectTimeouts, protocolErrors, membership stats.Counter
	// tryPauses are tries that were given up since nothing came, cancelled exchanges that
	// were while they had no connection, ejected those whose connection could not be made
	// or was lost, exhausted those with no connection after all attempts that they have.
	tryPauses, cancelled, ejected, exhausted stats.Counter
	// limited and paused are retries by who said when, tired those that were wanted
	// beyond their number, forgotten those of which the request was too long to be kept.
	limited, paused, tired, forgotten stats.Counter
	// ended are connections that are no more; announced those that the upstream has
	// said it would end, aged those that were as old as they may be.
	ended           wire.Endings
	announced, aged stats.Counter
	// zones are choices where it is known where hosts are: all that went to those near us,
	// those that did while the near ones were fit for a part, and those that went elsewhere;
	// zonesMade counts the plans.
	zones     [3]stats.Counter
	zonesMade stats.Counter
	// frames is what is said on connections of HTTP/2.
	frames http2.Frames
	// received and sent are bytes of bodies, and of raw connections.
	received, sent stats.Counter
	// http1 and http2 count connections by what is spoken on them.
	http1, http2 stats.Counter
	handshakes   mtls.Handshakes
	// lookups of names, and those that failed
	lookups, badLookups stats.Counter
}

// count counts what an exchange ended with, if its last try was made here. A
// response that a policy repeats the request for is none of them.
func (a *answers) count(name string, x *wire.Exchange) {
	status := x.Status
	if n := len(x.Attempts); n > 0 {
		last := &x.Attempts[n-1]
		if last.Cluster != name {
			return
		}
		if last.Status != 0 {
			status = last.Status
		}
	} else if x.Cluster != name {
		return
	}
	if status == 0 || x.Flag == wire.FlagDownstreamReset || x.Flag == wire.FlagDownstreamProtocol || errors.Is(x.Err, wire.ErrLasted) {
		return // the client left before, or has broken its word, or the time of all was up
	}
	if x.BytesOut > 0 {
		a.received.Add(x.BytesOut)
	}
	if x.BytesIn > 0 {
		a.sent.Add(x.BytesIn)
	}
	a.codes.Count(status)
	a.times.Observe(x.Finish.Sub(x.Received()))
	switch x.Flag {
	case wire.FlagUpstreamReset:
		if x.Cut {
			a.broke(x.Err)
		}
	case wire.FlagUpstreamTimeout:
		// That of one try among several is counted when it is over.
		if x.Deadline.IsZero() || !x.Finish.Before(x.Deadline) {
			a.timeouts.Add(1)
		}
	default:
	}
}

// TryTimedOut counts a try that was given up while the exchange had time left; paused
// says that nothing had come for as long as that may be.
func (c *Cluster) TryTimedOut(paused bool) {
	if paused {
		c.answers.tryPauses.Add(1)
	} else {
		c.answers.perTry.Add(1)
	}
}

// Exhausted counts a raw connection that was not made, however often it was tried.
func (c *Cluster) Exhausted() { c.answers.exhausted.Add(1) }

// NoRetry is why a retry that a policy wants is not made.
type NoRetry uint8

// NoRetryLeft is for want of tries, NoRetryBody since the request was too long to be
// kept.
const (
	NoRetryLeft NoRetry = iota
	NoRetryBody
)

// NotRetried counts a retry that a policy wants and that is not made.
func (c *Cluster) NotRetried(why NoRetry) {
	if why == NoRetryLeft {
		c.answers.tired.Add(1)
	} else {
		c.answers.forgotten.Add(1)
	}
}

// Retries counts what a retry follows: an answer, if status is not 0, and a pause; asked
// says that the upstream asked for it.
func (c *Cluster) Retries(status int, asked bool) {
	if status != 0 {
		c.answers.retried.Count(status)
	}
	if asked {
		c.answers.limited.Add(1)
	} else {
		c.answers.paused.Add(1)
	}
}

// lost counts a try without an answer.
func (a *answers) lost(fault *wire.Fault, second bool) {
	switch reset, isReset := errors.AsType[*http2.ResetError](fault.Err); {
	case fault.Flag == wire.FlagUpstreamConnect:
		a.ejected.Add(1)
	case !second || fault.Flag != wire.FlagUpstreamReset:
	case !isReset:
		a.ejected.Add(1)
	case reset.Code != refused:
		a.resets.Add(1)
	}
}

// broke counts an answer that broke off.
func (a *answers) broke(err error) {
	switch _, reset := errors.AsType[*http2.ResetError](err); {
	case reset:
		a.resets.Add(1)
	case errors.Is(err, io.ErrUnexpectedEOF):
		a.protocolErrors.Add(1)
	}
}

// refused is REFUSED_STREAM, which Envoy does not count.
const refused = 7

// Moved tells how many bytes were sent and received on a raw connection that is
// about to be closed, and whether it is we who end it.
func (c *countedConn) Moved(sent, received int64, ours bool) {
	a := &c.host.cluster.answers
	a.sent.Add(sent)
	a.received.Add(received)
	c.theirs.Store(!ours)
}

// hostAnswers is what came of the exchanges with a host.
type hostAnswers struct {
	total, bad, timeouts, connects, connectFails atomic.Int64
}

func (a *hostAnswers) ended(status int) {
	a.total.Add(1)
	if status >= 500 {
		a.bad.Add(1)
	}
}

// begun counts a connection for raw bytes.
func (a *hostAnswers) begun() { a.total.Add(1) }

func (a *hostAnswers) broke(err error) {
	a.total.Add(1)
	a.bad.Add(1)
	if wire.AsFault(err).Flag == wire.FlagUpstreamTimeout {
		a.timeouts.Add(1)
	}
}

// handshakeError is a handshake of TLS that failed.
type handshakeError struct {
	host string
	err  error
}

func (e *handshakeError) Error() string { return fmt.Sprintf("tls with %s: %v", e.host, e.err) }
func (e *handshakeError) Unwrap() error { return e.err }

func wasTLS(err error) bool {
	_, ok := errors.AsType[*handshakeError](err)
	return ok
}

// HostStats is one endpoint of a cluster with what was counted of it.
type HostStats struct {
	Endpoint mesh.Endpoint
	// Ejected says that outlier detection keeps it out.
	Ejected bool
	// Check is what a health check has found.
	Check verdict
	// Connections live, Active are exchanges under way.
	Connections, Active int64
	// Requests that were answered or broke, Errors those with a 5xx or none.
	Requests, Errors, Timeouts int64
	Connects, ConnectFails     int64
	// SuccessRate and LocalSuccessRate are as outlier detection saw them in its last
	// interval, in percent; -1 if it did not.
	SuccessRate, LocalSuccessRate float64
}

// ClusterStats is a cluster with its endpoints and what was counted of it.
type ClusterStats struct {
	Stats
	// Definition is what is in force.
	Definition *mesh.Cluster
	Endpoints  []HostStats
	// Updates is what came of endpoints: of lookups here, and for a cluster of EDS what
	// whoever reads it puts here.
	Updates Updates
	answers *answers
}

// Updates counts what came of endpoints.
type Updates struct{ Attempts, Taken, Rejected, Failed, TimedOut, Empty int64 }

// counted is what was counted of a cluster, without its endpoints.
func (c *Cluster) counted() ClusterStats {
	a := &c.answers
	bad, all := a.badLookups.Load(), a.lookups.Load()
	return ClusterStats{
		Stats: c.Stats(), Definition: c.config.Load().Cluster, answers: a,
		Updates: Updates{Attempts: all, Taken: max(0, all-bad), Failed: bad},
	}
}

// Clusters returns all clusters with their endpoints, by name.
func (s *Set) Clusters() []ClusterStats {
	var all []ClusterStats
	for _, c := range *s.clusters.Load() {
		one := c.counted()
		for _, h := range c.hosts.Load().all {
			o, rate, local := h.outlier.Load(), -1.0, -1.0
			if o != nil {
				rate, local = o.external.rate.load(), o.localOrigin.rate.load()
			}
			one.Endpoints = append(one.Endpoints, HostStats{
				SuccessRate: rate, LocalSuccessRate: local,
				Endpoint: *h.endpoint.Load(), Ejected: o != nil && o.ejected.Load(), Check: verdict(h.verdict.Load()),
				Connections: int64(h.allConns()), Active: int64(h.active.Load()),
				Requests: h.answers.total.Load(), Errors: h.answers.bad.Load(), Timeouts: h.answers.timeouts.Load(),
				Connects: h.answers.connects.Load(), ConnectFails: h.answers.connectFails.Load(),
			})
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b ClusterStats) int { return strings.Compare(a.Name, b.Name) })
	return all
}
