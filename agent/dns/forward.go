package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// forwardDeadline bounds all that is tried for one query. It is less than the
// server's own, so that the reason of a failure can still be told.
const forwardDeadline = deadline - 500*time.Millisecond

// forwarder is the zone of names that resolvers know.
//
// Equal questions that are under way at one time are one query. That makes it
// harder to guess an answer for us, and ends loops: a query that comes back to
// us waits for itself, until the resolver's time is up.
type forwarder struct {
	// set by newForwarder
	resolvers []*resolver
	timeout   time.Duration // of one try
	limit     *limit
	counts    *forwards
	log       *slog.Logger

	mu      sync.Mutex // guards:
	flights map[flightKey]*flight
}

// limit bounds the queries of all forwarders.
type limit struct{ most, now atomic.Int64 }

// forwards are the counters of all forwarders.
type forwards struct {
	total, retries, failures, shared, overflow atomic.Int64
}

// flightKey is what makes two queries equal.
type flightKey struct {
	name                      string
	qtype, class              uint16
	secure, unchecked, wanted bool // DO, CD and RD
}

// flight is a query under way; reply is set when done is closed.
type flight struct {
	done  chan struct{}
	reply *reply
}

func newForwarder(addresses []netip.AddrPort, timeout time.Duration, limit *limit, counts *forwards, log *slog.Logger) *forwarder {
	f := &forwarder{timeout: timeout, limit: limit, counts: counts, log: log, flights: map[flightKey]*flight{}}
	for _, address := range addresses {
		f.resolvers = append(f.resolvers, &resolver{address: address})
	}
	return f
}

// answer implements zone.
func (f *forwarder) answer(ctx context.Context, q *question) *reply {
	if q.udp && q.qtype() == dns.TypeANY {
		// a small question with a large answer: only to who has shown its address
		return &reply{truncated: true}
	}
	if len(f.resolvers) == 0 {
		return fail(dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported,
			"no resolver to ask: name one by dns { resolvers = [...] } or in /etc/resolv.conf")
	}
	key := f.key(q)
	f.mu.Lock()
	under := f.flights[key]
	if under != nil {
		f.mu.Unlock()
		f.counts.shared.Add(1)
		return under.wait(ctx)
	}
	under = &flight{done: make(chan struct{})}
	f.flights[key] = under
	f.mu.Unlock()

	under.reply = f.bounded(ctx, q)
	f.mu.Lock()
	delete(f.flights, key)
	f.mu.Unlock()
	close(under.done)
	return under.reply
}

func (f *forwarder) key(q *question) flightKey {
	key := flightKey{
		name: q.name, qtype: q.qtype(), class: q.asked.Qclass,
		unchecked: q.query.CheckingDisabled, wanted: q.query.RecursionDesired,
	}
	if opt := q.query.IsEdns0(); opt != nil {
		key.secure = opt.Do()
	}
	return key
}

// wait waits for an equal query. Its records are shared from then on.
func (w *flight) wait(ctx context.Context) *reply {
	select {
	case <-w.done:
		return w.reply
	case <-ctx.Done():
		return fail(dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority, "an equal query has no answer yet")
	}
}

func (f *forwarder) bounded(ctx context.Context, q *question) *reply {
	defer f.limit.now.Add(-1)
	if f.limit.now.Add(1) > f.limit.most.Load() {
		f.counts.overflow.Add(1)
		return fail(dns.RcodeServerFailure, dns.ExtendedErrorCodeOther, "too many queries wait for resolvers: dns { max_forwards } bounds them")
	}
	ctx, cancel := context.WithTimeout(ctx, forwardDeadline)
	defer cancel()
	return f.ask(ctx, q)
}

// ask tries the resolvers, those first that have not failed lately. An answer
// that another resolver may know better is kept for when none does.
func (f *forwarder) ask(ctx context.Context, q *question) *reply {
	query := outbound(q)
	var last *dns.Msg
	var all error
	for i, one := range f.inOrder() {
		if ctx.Err() != nil {
			break
		}
		if i > 0 {
			f.counts.retries.Add(1)
		}
		f.counts.total.Add(1)
		m, err := f.try(ctx, one, query)
		if err != nil {
			one.failed()
			all = errors.Join(all, err)
			f.log.Debug("resolver did not answer", "resolver", one.address.String(), "name", q.name, "err", err)
			continue
		}
		one.answered()
		if m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused && m.Rcode != dns.RcodeNotImplemented {
			return inbound(m)
		}
		last = m
	}
	if last != nil {
		return inbound(last)
	}
	f.counts.failures.Add(1)
	return f.unreached(all)
}

// try asks one resolver, again by TCP if the answer did not fit, and without
// EDNS if it does not know that (RFC 6891 section 7).
func (f *forwarder) try(ctx context.Context, one *resolver, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	m, err := one.exchange(ctx, "udp", query)
	if err == nil && m.Rcode == dns.RcodeFormatError && m.IsEdns0() == nil {
		f.counts.retries.Add(1)
		query = query.Copy()
		query.Extra = nil
		m, err = one.exchange(ctx, "udp", query)
	}
	if err == nil && m.Truncated {
		f.counts.retries.Add(1)
		return one.exchange(ctx, "tcp", query)
	}
	return m, err
}

// unreached says that and why no resolver has answered.
func (f *forwarder) unreached(err error) *reply {
	if err == nil {
		err = errors.New("no time left")
	}
	text := fmt.Sprintf("no resolver answers: %v", err)
	r := fail(dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority, text)
	if !errors.Is(err, context.DeadlineExceeded) {
		r.why[0].code = dns.ExtendedErrorCodeNetworkError
	}
	return r
}

// inOrder are the resolvers as they were given, but those that have failed
// lately last: they cost a timeout.
func (f *forwarder) inOrder() []*resolver {
	now := time.Now().UnixNano()
	order := make([]*resolver, 0, len(f.resolvers))
	for _, lately := range []bool{false, true} {
		for _, one := range f.resolvers {
			if (one.badUntil.Load() > now) == lately {
				order = append(order, one)
			}
		}
	}
	return order
}

// outbound is the query for resolvers: the question, and of EDNS what is for
// them and not for us (RFC 6891 section 6.2.6).
func outbound(q *question) *dns.Msg {
	m := &dns.Msg{
		MsgHdr: dns.MsgHdr{
			RecursionDesired: q.query.RecursionDesired, CheckingDisabled: q.query.CheckingDisabled,
			AuthenticatedData: q.query.AuthenticatedData,
		},
		Question: []dns.Question{q.asked},
	}
	opt := q.query.IsEdns0()
	m.SetEdns0(forwardUDPSize, opt != nil && opt.Do())
	return m
}

// inbound is what a resolver's answer is to our client.
func inbound(m *dns.Msg) *reply {
	r := &reply{
		rcode: m.Rcode, authenticated: m.AuthenticatedData, truncated: m.Truncated,
		answer: m.Answer, authority: m.Ns,
	}
	for _, rr := range m.Extra {
		switch one := rr.(type) {
		case *dns.OPT:
			for _, option := range one.Option {
				if ede, ok := option.(*dns.EDNS0_EDE); ok {
					r.why = append(r.why, reason{ede.InfoCode, ede.ExtraText})
				}
			}
		case *dns.TSIG:
		default:
			r.extra = append(r.extra, rr)
		}
	}
	return r
}
