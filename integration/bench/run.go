//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// bench is a run of scenarios.
type bench struct {
	world   *world
	peers   []*peer
	paths   map[string]string // binaries by peer; who is not there has none
	rounds  int
	seconds time.Duration // of a measurement
	say     func(format string, args ...any)
}

const (
	warmTime = 300 * time.Millisecond
	calmTime = time.Second // of a round of a calm scenario, each of whose requests may open a connection
)

// contender is a peer in a scenario.
type contender struct {
	peer    *peer
	subject *subject
	row     *row
	rounds  []round
	errors  int
	first   string // error
}

// round is what was measured of a proxy in one round.
type round struct {
	full  *loadResult // as fast as it goes; nil in calm scenarios
	paced *loadResult // at the scenario's rate
}

// scenario runs one: all proxies stand ready, and take turns. In a calm one there is nothing that could disturb some of
// them, but a great many connections, so that they come one after another.
func (b *bench) scenario(ctx context.Context, s *scenario) ([]*row, error) {
	b.say("%s: %s", s.name, s.about)
	port, backend, err := b.world.startBackend(ctx, s)
	if err != nil {
		return nil, err
	}
	defer backend.Kill() //nolint:errcheck // it never fails
	if !s.calm {
		return b.turns(ctx, s, b.peers, port)
	}
	var all []*row
	for _, p := range b.peers {
		rows, err := b.turns(ctx, s, []*peer{p}, port)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// turns measures peers in turns.
func (b *bench) turns(ctx context.Context, s *scenario, peers []*peer, backend int) ([]*row, error) {
	var all []*contender
	defer func() {
		for _, c := range all {
			if c.subject != nil {
				c.subject.kill()
			}
		}
	}()
	for _, p := range peers {
		if c := b.enter(ctx, s, p, backend); c != nil {
			all = append(all, c)
		}
	}
	for range b.rounds {
		for _, c := range all {
			if c.subject == nil {
				continue
			}
			if err := b.round(ctx, s, c); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				c.row.Problem = err.Error()
				c.subject.kill()
				c.subject = nil
			}
		}
	}
	var rows []*row
	for _, c := range all {
		if c.subject != nil {
			if err := c.finish(s); err != nil {
				c.row.Problem = err.Error()
			}
		}
		rows = append(rows, c.row)
	}
	return rows, nil
}

// enter starts a peer for a scenario. It returns nil for one that is not there or is not made for it.
func (b *bench) enter(ctx context.Context, s *scenario, p *peer, backend int) *contender {
	path := b.paths[p.name]
	if path == "" {
		return nil
	}
	if reason := p.does(s); reason != "" {
		return nil
	}
	c := &contender{peer: p, row: &row{Scenario: s.name, Proxy: p.name}}
	subject, err := p.start(ctx, b.world, &job{scenario: s, path: path, backend: backend})
	if err == nil {
		err = probe(ctx, s, subject.addr)
	}
	if err == nil {
		c.subject = subject
		return c
	}
	if subject != nil {
		subject.kill()
	}
	c.row.Problem = err.Error()
	if p.name == ours {
		c.row.Problem = "not served yet: " + err.Error()
	}
	return c
}

// round measures a proxy once.
func (b *bench) round(ctx context.Context, s *scenario, c *contender) error {
	load := s.load
	load.Addr, load.Paths, load.Warm, load.Time = c.subject.addr, s.paths(), warmTime, b.seconds
	pids, err := c.subject.pids()
	if err != nil {
		return err
	}
	load.PIDs, load.Core = pids, b.world.cores.proxy
	var r round
	if !s.calm {
		if r.full, err = c.load(ctx, &load); err != nil {
			return err
		}
	}
	load.Rate = s.rate
	if s.calm {
		load.Time = calmTime
	} else {
		load.Time = b.seconds / 2
	}
	if r.paced, err = c.load(ctx, &load); err != nil {
		return err
	}
	c.rounds = append(c.rounds, r)
	return nil
}

func (c *contender) load(ctx context.Context, l *loadConfig) (*loadResult, error) {
	result, err := runLoad(ctx, l)
	if err != nil {
		return nil, err
	}
	if result.Errors > 0 && c.errors == 0 {
		c.first = result.First
	}
	c.errors += result.Errors
	if result.Requests == 0 && l.Rate == 0 {
		return nil, fmt.Errorf("no request was answered within %v, in which the proxy had %v of its core; %d errors, the first: %q",
			result.Time.Round(time.Millisecond), result.CPU.Round(time.Millisecond), result.Errors, result.First)
	}
	return result, nil
}

// finish makes the row out of the rounds.
func (c *contender) finish(s *scenario) error {
	pids, err := c.subject.pids()
	if err != nil {
		return err
	}
	if c.row.Memory, err = peakMemory(pids); err != nil {
		return err
	}
	c.row.fill(s, c.rounds)
	c.row.Errors, c.row.First = c.errors, c.first
	c.row.Note = c.subject.note
	return nil
}
