package stack

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// mirrorTimeout bounds a copy of a request that itself has no bound.
	mirrorTimeout = time.Minute
	// million is what shares are given of.
	million = 1_000_000
	// mirrorSuffix is what tells the host of a copy from the request's own.
	mirrorSuffix = "-shadow"
)

// mirror sends copies of the request to other clusters, and forgets about them. A copy
// leaves when the upstream has read all of the body; one whose body is longer than
// what is kept for a retry, or is not read to its end, is dropped. How many are under
// way is bounded by the limits of their clusters.
func (r *router) mirror(x *wire.Exchange, req *wire.Request, mirrors []mesh.Mirror) {
	if req.Raw() {
		return
	}
	var copies []*mirrored
	for i := range mirrors {
		m := &mirrors[i]
		if m.Share < million && x.Draw()%million >= m.Share {
			continue
		}
		name := route.ClusterOf(&mesh.Target{Cluster: m.Cluster, Header: m.ClusterHeader}, req)
		cluster := r.clusters.Cluster(name)
		if cluster == nil {
			continue // as Envoy has it
		}
		c := &mirrored{to: cluster, request: call.Request{
			Method: strings.Clone(req.Method), Scheme: strings.Clone(req.Scheme), Authority: mirrorHost(req.Authority, m.PlainHost),
			Path: strings.Clone(req.Path), Header: req.Header.Clone(), GRPC: x.GRPC, MaxBody: -1, Timeout: mirrorTimeout,
		}}
		if x.Timeout > 0 {
			c.request.Timeout = x.Timeout
		}
		copies = append(copies, c)
	}
	switch {
	case len(copies) == 0:
	case req.Body == nil:
		send(copies, nil)
	default:
		req.Body = &listening{Body: req.Body, length: req.ContentLength, copies: copies}
	}
}

// mirrorHost is the authority of a copy.
func mirrorHost(authority string, plain bool) string {
	if plain {
		return strings.Clone(authority)
	}
	host, port := cutPort(authority)
	if port != "" {
		port = ":" + port
	}
	return host + mirrorSuffix + port
}

// mirrored is a copy of a request on its way.
type mirrored struct {
	to      wire.Service
	request call.Request
}

// send sends copies with a body.
func send(copies []*mirrored, body []byte) {
	for _, c := range copies {
		c.request.Body = body
		go func() {
			_, _ = call.Do(context.Background(), c.to, c.request) // the cluster counts what became of it
		}()
	}
}

// listening is the body of a request that is mirrored.
type listening struct {
	wire.Body
	length int64 // wire.UnknownLength if it is not known

	mu     sync.Mutex // guards:
	copies []*mirrored
	heard  []byte
}

// Read implements [wire.Body].
func (l *listening) Read(p []byte) (int, error) {
	n, err := l.Body.Read(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.copies == nil:
	case len(l.heard)+n > wire.DefaultReplayLimit, err != nil && !errors.Is(err, io.EOF):
		l.copies, l.heard = nil, nil
	default:
		if l.heard = append(l.heard, p[:n]...); err != nil || int64(len(l.heard)) == l.length {
			send(l.copies, l.heard)
			l.copies, l.heard = nil, nil
		}
	}
	return n, err
}

// Buffered implements [wire.Buffered].
func (l *listening) Buffered() bool { return wire.BodyBuffered(l.Body) }

// AtHand implements [wire.AtHand].
func (l *listening) AtHand() bool { return wire.BodyAtHand(l.Body) }
