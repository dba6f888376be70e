package catalog

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// lookEvery is the least time between two looks at what is to be followed.
const lookEvery = 50 * time.Millisecond

// Run keeps the Index until ctx ends. It must be called once.
func (x *Index) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { x.self.loop.run(ctx) })
	running.Go(func() { x.datacenters.loop.run(ctx) })
	running.Go(func() { x.sweep(ctx) })
	for {
		x.reconcile(ctx, &running)
		if !rest(ctx, lookEvery, nil) {
			return nil
		}
		select {
		case <-x.waking:
		case <-ctx.Done():
			return nil
		}
	}
}

// wake lets Run look again at what is to be followed.
func (x *Index) wake() {
	select {
	case x.waking <- struct{}{}:
	default:
	}
}

// listed takes a list of services over.
func (x *Index) listed(d *datacenter, doubtful bool) {
	names := *d.names.names.Load()
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, t := range d.services {
		_, t.listed = names[key]
		if !t.listed && t.stop == nil && !doubtful {
			x.forget(d, key) // nobody follows it, so nobody else will see that it is gone
		}
	}
	if d == x.own {
		for key, name := range names {
			if d.services[key] == nil {
				x.newService(d, key, name)
			}
		}
	}
	x.wake()
}

// forget drops a service; the caller holds mu.
func (x *Index) forget(d *datacenter, key string) {
	t := d.services[key]
	t.end()
	t.settle()
	delete(d.services, key)
	x.sidecars.Store(true)
}

// end ends the loop of a topic, if it has one. The caller holds mu of the Index.
func (t *topic) end() {
	if t.stop != nil {
		t.stop()
		t.stop = nil
	}
	t.trace.forget(t.about)
}

// reconcile starts and ends loops, so that what was asked for last is followed
// within the bounds.
func (x *Index) reconcile(ctx context.Context, running *sync.WaitGroup) {
	follow := func(t *topic) {
		if t.stop == nil {
			one, stop := context.WithCancel(ctx)
			t.stop = stop
			running.Go(func() { t.loop.run(one) })
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var remote []*serviceTopic
	x.dropEmpty(x.own)
	follow(&x.own.names.topic)
	follow(&x.own.nodes.topic)
	for _, d := range x.remote {
		x.dropEmpty(d)
		follow(&d.names.topic)
		follow(&d.nodes.topic)
		for _, t := range d.services {
			remote = append(remote, t)
		}
	}
	own := make([]*serviceTopic, 0, len(x.own.services))
	for _, t := range x.own.services {
		own = append(own, t)
	}
	chosen, rest := choose(own, x.config.Follow)
	for _, t := range rest {
		t.end() // the sweep sees to it
	}
	for _, t := range chosen {
		follow(&t.topic)
	}
	x.counts.services.Store(int64(len(own)))
	x.counts.followed.Store(int64(len(chosen)))

	chosen, rest = choose(remote, x.config.Remote)
	for _, t := range rest {
		x.counts.displaced.Add(1)
		x.forget(x.remote[strings.ToLower(t.datacenter)], strings.ToLower(t.name))
	}
	for _, t := range chosen {
		follow(&t.topic)
	}
	x.counts.remote.Store(int64(len(chosen)))
	x.followSources(follow)
}

func (x *Index) followSources(follow func(*topic)) {
	sources := make([]*sourceTopic, 0, len(x.sources))
	for _, t := range x.sources {
		sources = append(sources, t)
	}
	chosen, rest := choose(sources, x.config.Sources)
	for _, t := range rest {
		x.counts.displaced.Add(1)
		t.end()
		t.settle()
		delete(x.sources, t.source)
	}
	for _, t := range chosen {
		follow(&t.topic)
	}
	x.counts.sources.Store(int64(len(chosen)))
}

// dropEmpty drops services that the list does not have and that have no
// instance. The caller holds mu.
func (x *Index) dropEmpty(d *datacenter) {
	for key, t := range d.services {
		if !t.listed && t.empty() {
			x.forget(d, key)
		}
	}
}

// choose parts topics into those to follow, at most bound, which are those that
// were asked for last, and the others.
func choose[T interface{ itself() *topic }](all []T, bound int) (follow, others []T) {
	if len(all) <= bound {
		return all, nil
	}
	slices.SortFunc(all, func(a, b T) int {
		s, t := a.itself(), b.itself()
		return cmp.Or(cmp.Compare(t.asked.Load(), s.asked.Load()), cmp.Compare(rank(s), rank(t)), strings.Compare(s.about, t.about))
	})
	return all[:bound], all[bound:]
}

func (t *topic) itself() *topic { return t }

// rank puts topics that are followed in front.
func rank(t *topic) int {
	if t.stop != nil {
		return 0
	}
	return 1
}

// sweep asks in turn for the services that are not followed, first for those
// that were never seen.
func (x *Index) sweep(ctx context.Context) {
	for {
		unseen, seen := x.unfollowed()
		if len(unseen) > 0 {
			seen = nil
		}
		for _, t := range append(unseen, seen...) {
			failed := t.loop.glance(ctx)
			x.counts.swept.Add(1)
			switch {
			case failed && !rest(ctx, firstPause, nil):
				return
			case len(seen) > 0 && !rest(ctx, x.config.Sweep, nil):
				return
			}
		}
		if len(unseen)+len(seen) == 0 && !rest(ctx, pace, nil) || ctx.Err() != nil {
			return
		}
	}
}

// unfollowed are the services of the own datacenter without a loop.
func (x *Index) unfollowed() (unseen, seen []*serviceTopic) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, t := range x.own.services {
		switch {
		case t.stop != nil:
		case t.got.Load() || t.failure.Load() != nil:
			seen = append(seen, t)
		default:
			unseen = append(unseen, t)
		}
	}
	return unseen, seen
}
