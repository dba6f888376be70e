//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// visitor makes new connections through the first upstream and learns who is behind it.
type visitor struct {
	address, last string // of the listeners for the first and the last upstream
	dialer        net.Dialer
}

func newVisitor(upstreams int) *visitor {
	at := func(n int) string { return upstreamIP + ":" + strconv.Itoa(upstreamPort+n) }
	return &visitor{address: at(0), last: at(upstreams - 1)}
}

const (
	// effectTime is how long a change may take.
	effectTime = 30 * time.Second
	// firstTime is how long a proxy may take until its first answer.
	firstTime = 5 * time.Minute
)

// who is the name of the backend that a new connection reaches.
func (p *visitor) who(ctx context.Context) (byte, error) {
	conn, err := p.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	var name [1]byte
	_, err = io.ReadFull(conn, name[:])
	return name[0], err
}

// bound tells whether the last listener is there, too.
func (p *visitor) bound(ctx context.Context) bool {
	conn, err := p.dialer.DialContext(ctx, "tcp", p.last)
	return err == nil && conn.Close() == nil
}

// answered waits for the first answer of a proxy that has all its listeners.
func (p *visitor) answered(ctx context.Context, of *measured) error {
	ctx, cancel := context.WithTimeoutCause(ctx, firstTime, fmt.Errorf("no answer within %v", firstTime))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := p.who(ctx); err == nil && p.bound(ctx) {
			return nil
		}
		select {
		case <-of.Done():
			return fmt.Errorf("%s ended: %s", of.Name, tail(of.Log()))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// effects takes the time from changes to when a new connection shows them. turn lets the backend of that name be the
// only healthy one, and returns when that was said.
func (s *scale) effects(
	ctx context.Context, of *measured, who func(ctx context.Context) (byte, error), turn func(ctx context.Context, to byte) (time.Time, error),
) ([]time.Duration, error) {
	var all []time.Duration
	now, err := who(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask who answers: %w", err)
	}
	for len(all) < s.options.changes {
		next := 'A' + 'B' - now
		said, err := turn(ctx, next)
		if err != nil {
			return nil, err
		}
		deadline := said.Add(effectTime)
		for now != next {
			if got, err := who(ctx); err == nil {
				now = got
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("a change had no effect within %v", effectTime)
			}
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, ctx.Err()
			}
			time.Sleep(2 * time.Millisecond) // between two looks; all is measured by the clock
		}
		all = append(all, time.Since(said))
		select {
		case <-of.ended():
			return nil, fmt.Errorf("%s ended: %s", of.Name, tail(of.Log()))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300*time.Millisecond + rand.N(300*time.Millisecond)): // in no step with anything that coalesces
		}
	}
	return all, nil
}
