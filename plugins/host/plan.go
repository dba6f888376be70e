package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Plan is what a configuration wants of a [Set], ready to be put in force. It
// must be ended by Commit or Abort. It is not safe for concurrent use.
type Plan struct {
	set       *Set
	workers   map[string]*worker // all that will be in force
	fresh     []*worker          // those of them that the plan has started
	instances []*Instance        // by use
	made      []entry            // in workers that are in force already
	over      bool
}

// entry is where a use is found.
type entry struct {
	worker *worker
	key    useKey
}

// Instance is that of the use number n which Prepare was given. It can be called
// from then on, and no more after Abort.
func (p *Plan) Instance(n int) *Instance { return p.instances[n] }

// startAll starts the plugins that do not run yet, all at once.
func (p *Plan) startAll(ctx context.Context, configs []Config) error {
	var starting sync.WaitGroup
	errs := make([]error, len(configs))
	for n := range configs {
		c := &configs[n]
		if w := p.set.inForce(c); w != nil {
			p.workers[c.Name] = w
			continue
		}
		w := p.set.newWorker(c)
		p.workers[c.Name] = w
		starting.Go(func() {
			if err := w.start(ctx); err != nil {
				errs[n] = at(c.Pos, "plugin %q: %w", c.Name, err)
			}
		})
		p.fresh = append(p.fresh, w)
	}
	starting.Wait()
	return errors.Join(errs...)
}

// openAll opens the uses that are not open yet.
func (p *Plan) openAll(ctx context.Context, uses []Use) error {
	var errs []error
	for n := range uses {
		i, err := p.open(ctx, &uses[n])
		if err != nil {
			errs = append(errs, err)
		}
		p.instances = append(p.instances, i)
	}
	return errors.Join(errs...)
}

// open finds or opens a use. One that is in force already is not asked for
// again: if its plugin is down just now, that is no reason to refuse a
// configuration that changes something else.
func (p *Plan) open(ctx context.Context, use *Use) (*Instance, error) {
	key, err := use.key()
	if err != nil {
		return nil, err
	}
	w := p.workers[use.Plugin]
	i, made := w.instance(key, use, p.set.nextID())
	if made {
		p.made = append(p.made, entry{w, key})
		if err := p.openNew(ctx, w, i); err != nil {
			return nil, at(use.Pos, "plugin %q: %w", use.Plugin, err)
		}
	}
	switch {
	case use.Authenticate && !i.authenticates.Load():
		return nil, at(use.Pos, "plugin %q does not authenticate requests; it can transform them", use.Plugin)
	case use.Transform && !i.transforms.Load():
		return nil, at(use.Pos, "plugin %q does not transform requests; it can authenticate them", use.Plugin)
	}
	return i, nil
}

// openNew opens a use in the process that is there, or will be soon.
func (p *Plan) openNew(ctx context.Context, w *worker, i *Instance) error {
	for {
		s, err := p.session(ctx, w)
		if err != nil {
			return err
		}
		err = i.open(ctx, s)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return asRefused(err)
		}
		select {
		case <-s.ended: // and there may be another one
		case <-ctx.Done():
			return asRefused(err)
		}
	}
}

// session is where a use can be opened. A plugin that is in force already may
// just be starting again; a fresh one has its one chance.
func (p *Plan) session(ctx context.Context, w *worker) (*session, error) {
	if !slices.Contains(p.fresh, w) {
		return w.await(ctx)
	}
	s := w.session.Load()
	if !s.isUp() {
		return nil, fmt.Errorf("it ended right after its start: %s%s", s.process.end, heard(s.log))
	}
	return s, nil
}

func asRefused(err error) error {
	if refused, ok := errors.AsType[*settingsError](err); ok {
		return fmt.Errorf("it refuses its settings: %w", refused)
	}
	return fmt.Errorf("open a use of it: %w", err)
}

// Commit puts the plan in force. What was before and is not in the plan can
// still be called for a while (five minutes), for exchanges that began before.
func (p *Plan) Commit() {
	if p.end() {
		p.set.commit(p)
	}
}

// Abort leaves in force what was before. After Commit it does nothing.
func (p *Plan) Abort() {
	if !p.end() {
		return
	}
	defer p.set.letPlan()
	for _, e := range p.made {
		e.worker.drop(e.key)
	}
	finishAll(p.fresh)
}

func (p *Plan) end() bool {
	first := !p.over
	p.over = true
	return first
}

func finishAll(workers []*worker) {
	var ending sync.WaitGroup
	for _, w := range workers {
		ending.Go(w.finish)
	}
	ending.Wait()
}

// keep marks what the plan has as wanted, and what it has not as retired now;
// Set.mu is held. It returns the workers that are not wanted any more.
func (p *Plan) keep(before map[string]*worker, now time.Time) []*worker {
	wanted := map[*Instance]bool{}
	for _, i := range p.instances {
		wanted[i] = true
	}
	for _, w := range p.workers {
		w.mu.Lock()
		for _, i := range w.instances {
			switch {
			case wanted[i]:
				i.retired = time.Time{}
			case i.retired.IsZero():
				i.retired = now
			}
		}
		w.mu.Unlock()
	}
	var gone []*worker
	for name, w := range before {
		if p.workers[name] != w {
			w.retired = now
			gone = append(gone, w)
		}
	}
	return gone
}
