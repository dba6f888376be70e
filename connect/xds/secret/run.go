package secret

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// errNoServer: who made the Store has no clusters by which one could be asked.
var errNoServer = errors.New("servers of secrets cannot be asked here")

// Run looks after files and asks servers until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.start(ctx)
	defer s.end(cancel)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var due <-chan time.Time
		if s.hasFiles() {
			due = tick.C
		} else {
			tick.Stop() // nobody is woken for nothing
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
			tick.Reset(pollEvery)
		case <-due:
			files := s.poll(time.Now())
			if s.retry() || files {
				s.config.Changed()
			}
		}
	}
}

// start lets servers be asked, also for what was needed before.
func (s *Store) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = ctx
	for k, it := range s.items {
		if k.named && k.secret.Source.Kind == mesh.SecretServer {
			s.follow(k, it)
		}
	}
}

func (s *Store) end(cancel context.CancelFunc) {
	cancel()
	s.mu.Lock()
	s.running = nil
	for _, it := range s.items {
		it.stop = nil
	}
	servers := s.servers
	s.servers = map[mesh.SecretSource]Server{}
	s.mu.Unlock()
	s.follows.Wait()
	for _, server := range servers {
		server.Close()
	}
}

// follow asks a server for a secret, if Run runs. Callers hold the lock.
func (s *Store) follow(k key, it *item) {
	if s.running == nil || it.stop != nil {
		return
	}
	source := k.secret.Source
	server := s.servers[source]
	if server == nil {
		var err error
		if server, err = s.open(source); err != nil {
			s.broken(k, it, err, time.Now(), 0)
			return
		}
		s.servers[source] = server
	}
	ctx, stop := context.WithCancel(s.running)
	it.stop = stop
	s.follows.Go(func() {
		defer stop()
		set := func(body []byte, version string) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			changed, err := s.set(k.secret, body, version, false)
			if changed {
				s.config.Changed()
			}
			return err
		}
		if err := server.Follow(ctx, k.secret.Name, set, func(err error) { s.down(k, err) }); err != nil && ctx.Err() == nil {
			s.down(k, err)
		}
	})
}

func (s *Store) open(source mesh.SecretSource) (Server, error) {
	if s.config.Open == nil {
		return nil, errNoServer
	}
	return s.config.Open(source)
}

// down tells why a server does not give a secret. What it gave last stays.
func (s *Store) down(k key, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[k]
	if it == nil {
		return
	}
	if !it.good {
		err = fmt.Errorf("%w: %w", ErrWaiting, err)
	}
	s.broken(k, it, err, time.Now(), writing)
}
