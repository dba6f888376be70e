package telemetry

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// TapFilter chooses what a tap sees. A zero field lets everything through.
type TapFilter struct {
	// Listener and Cluster are names, or what they begin with up to a ":" or ".".
	Listener, Cluster string
	// Method, PathPrefix and Status of exchanges: Status is a code, or a class such
	// as "5xx".
	Method, PathPrefix, Status string
	// Peer is a part of the caller's SPIFFE ID, of its address or of the consumer's
	// name.
	Peer string
	// MinDuration leaves out what took less time.
	MinDuration time.Duration
	// Sample is how many of a hundred are looked at; 0 means all.
	Sample float64
}

// Tapped is one exchange, or connection, that has ended.
type Tapped struct {
	Time      time.Time `json:"time"`
	Listener  string    `json:"listener"`
	Direction Direction `json:"direction"`
	Peer      string    `json:"peer,omitempty"`
	Address   string    `json:"address,omitempty"`
	Consumer  string    `json:"consumer,omitempty"`
	Method    string    `json:"method,omitempty"`
	Authority string    `json:"authority,omitempty"`
	Path      string    `json:"path,omitempty"`
	Status    int       `json:"status,omitempty"`
	Flag      string    `json:"flag,omitempty"`
	Error     string    `json:"error,omitempty"`
	Route     string    `json:"route,omitempty"`
	Cluster   string    `json:"cluster,omitempty"`
	Endpoint  string    `json:"endpoint,omitempty"`
	Tries     int       `json:"tries,omitempty"`
	Millis    float64   `json:"duration_ms"`
	BytesIn   int64     `json:"bytes_in"`
	BytesOut  int64     `json:"bytes_out"`
}

const (
	// maxTaps bounds how many there may be at a time, tapRoom how much each may lag
	// behind: what has no room is not seen, and counted.
	maxTaps = 8
	tapRoom = 512
)

// taps are all of an Observer. The zero taps are ready for use.
type taps struct {
	// all is nil as long as nobody taps: that is all that an exchange pays then.
	all atomic.Pointer[[]*Tap]
	mu  sync.Mutex // held while all is changed
}

// Tap is one who looks at what passes. Close ends it.
type Tap struct {
	filter  TapFilter
	of      *taps
	seen    chan Tapped
	dropped atomic.Int64
}

// Tap begins to look. It returns nil if there are too many who do.
func (o *Observer) Tap(filter TapFilter) *Tap {
	if o == nil {
		return nil
	}
	ts := &o.taps
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var all []*Tap
	if now := ts.all.Load(); now != nil {
		all = append(all, *now...)
	}
	if len(all) >= maxTaps {
		return nil
	}
	t := &Tap{filter: filter, of: ts, seen: make(chan Tapped, tapRoom)}
	all = append(all, t)
	ts.all.Store(&all)
	return t
}

// Seen gives what the filter lets through.
func (t *Tap) Seen() <-chan Tapped { return t.seen }

// Dropped counts what there was no room for.
func (t *Tap) Dropped() int64 { return t.dropped.Load() }

// Close ends the tap.
func (t *Tap) Close() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	now := t.of.all.Load()
	if now == nil {
		return
	}
	var left []*Tap
	for _, other := range *now {
		if other != t {
			left = append(left, other)
		}
	}
	if left == nil {
		t.of.all.Store(nil)
		return
	}
	t.of.all.Store(&left)
}

// see shows the end of x to all who tap.
func (ts *taps) see(p *Place, x *wire.Exchange) {
	all := ts.all.Load()
	if all == nil {
		return
	}
	for _, t := range *all {
		t.see(p, x)
	}
}

func (t *Tap) see(p *Place, x *wire.Exchange) {
	if !t.filter.passes(p, x) {
		return
	}
	select {
	case t.seen <- tapped(p, x):
	default:
		t.dropped.Add(1)
	}
}

func (f *TapFilter) passes(p *Place, x *wire.Exchange) bool {
	switch {
	case f.Sample > 0 && f.Sample < 100 && rand.Float64()*100 >= f.Sample,
		f.Listener != "" && !begins(p.Listener, f.Listener),
		f.Cluster != "" && !begins(x.Cluster, f.Cluster),
		f.Method != "" && x.Method != f.Method,
		f.PathPrefix != "" && !strings.HasPrefix(x.Path, f.PathPrefix),
		f.Status != "" && !statusIs(x.Status, f.Status),
		f.MinDuration > 0 && duration(x) < f.MinDuration:
		return false
	case f.Peer == "":
		return true
	}
	return strings.Contains(x.Peer.ID.String(), f.Peer) || strings.Contains(x.Peer.Host(), f.Peer) || strings.Contains(x.Consumer, f.Peer)
}

// begins tells whether name is part, or part and then ":" or ".".
func begins(name, part string) bool {
	rest, ok := strings.CutPrefix(name, part)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == '.')
}

// IsStatus tells whether text may be the Status of a TapFilter.
func IsStatus(text string) bool {
	if len(text) != 3 || text[0] < '1' || text[0] > '9' {
		return false
	}
	for _, c := range text[1:] {
		if c != 'x' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// statusIs tells whether a status is a code such as "404" or of a class such as
// "4xx".
func statusIs(status int, want string) bool {
	if status < 100 || status > 999 || len(want) != 3 {
		return false
	}
	digits := [3]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}
	for i, d := range digits {
		if c := want[i]; c != d && c != 'x' {
			return false
		}
	}
	return true
}

// tapped keeps what the exchange, whose strings die with it, has to tell.
func tapped(p *Place, x *wire.Exchange) Tapped {
	t := Tapped{
		Time: x.Start, Listener: p.Listener, Direction: p.Direction, Peer: x.Peer.ID.String(), Address: x.Peer.Host(),
		Consumer: strings.Clone(x.Consumer), Method: strings.Clone(x.Method), Authority: strings.Clone(x.Authority), Path: strings.Clone(pathOf(x)),
		Status: x.Status, Flag: flagOf(x), Route: strings.Clone(x.Route), Cluster: strings.Clone(x.Cluster), Tries: len(x.Attempts),
		Millis: float64(duration(x)) / float64(time.Millisecond), BytesIn: x.BytesIn, BytesOut: x.BytesOut,
	}
	if x.Err != nil {
		t.Error = x.Err.Error()
	}
	if n := len(x.Attempts); n > 0 {
		t.Endpoint = strings.Clone(x.Attempts[n-1].Endpoint)
	}
	return t
}
