//go:build linux

package main

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// streams is a load over HTTP/2: connections with a number of slots each, of which each has one request under way.
type streams struct {
	config *loadConfig
	paced  bool

	// mu guards the rest, all connections and the meter: there is one processor for all of it
	mu    sync.Mutex
	meter *meter
	idle  []*slot         // only if paced
	late  []time.Duration // due, and no slot is idle
	over  bool            // no request is sent any more
	busy  int             // slots with a request under way
}

// slot makes one request after another: each on a stream of its own, or all as messages on one stream.
type slot struct {
	conn   *streamClient
	id     uint32
	due    time.Duration
	body   int  // bytes of the answer's body so far
	ok     bool // the answer's head said 200
	window int  // of its stream, on top of window.initial
	took   int  // bytes since its stream's window was last given back
	busy   bool
}

func streamLoad(c *loadConfig, m *meter) error {
	s := &streams{config: c, meter: m, paced: c.Rate > 0}
	errs := make(chan error, c.Conns)
	for range c.Conns {
		client, err := s.open()
		if err != nil {
			return err
		}
		go func() { errs <- client.read() }()
	}
	ready := make(chan error, 1)
	go func() { ready <- s.clock() }()
	select {
	case err := <-errs:
		return fmt.Errorf("a connection ended before the load did: %w", err)
	case err := <-ready:
		return err
	}
}

// clock moves the meter on and starts what is due, until the load is over.
func (s *streams) clock() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make timer: %w", err)
	}
	tick := make([]byte, 8)
	pace := newPace(s.config.Rate, now())
	for {
		wake, over := s.step(pace)
		if over {
			return nil
		}
		spec := &unix.ItimerSpec{Value: unix.NsecToTimespec(wake.Nanoseconds())}
		if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, spec, nil); err != nil {
			return fmt.Errorf("set timer: %w", err)
		}
		if _, err := unix.Read(fd, tick); err != nil && !again(err) {
			return fmt.Errorf("wait for timer: %w", err)
		}
	}
}

func (s *streams) step(p *pace) (wake time.Duration, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now()
	if s.over = s.meter.tick(at); s.over {
		return at + endTime/100, s.busy == 0 || at > s.meter.next()+endTime
	}
	wake = s.meter.next()
	if p != nil {
		p.due(at, s.startLocked)
		wake = min(wake, p.next)
	}
	return wake, false
}

// startLocked sends a request that is due, or lets it wait.
func (s *streams) startLocked(due time.Duration) {
	n := len(s.idle)
	if n == 0 {
		s.late = append(s.late, due)
		return
	}
	next := s.idle[n-1]
	s.idle = s.idle[:n-1]
	next.conn.send(next, due)
	if err := next.conn.flush(); err != nil {
		s.meter.failed("write: %v", err)
	}
}

// finishLocked counts what a slot did and gives it the next request.
func (s *streams) finishLocked(done *slot, problem string) {
	done.busy = false
	s.busy--
	if problem != "" {
		s.meter.failed("%s", problem)
	} else {
		s.meter.answered(done.due)
	}
	switch {
	case s.over:
	case !s.paced:
		done.conn.send(done, 0)
	case len(s.late) > 0:
		due := s.late[0]
		s.late = s.late[1:]
		done.conn.send(done, due)
	default:
		s.idle = append(s.idle, done)
	}
}
