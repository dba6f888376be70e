package edge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Run binds the listeners and serves until ctx ends, and then drains:
//
//	at once             deregister from Consul, Ready fails, "connection: close"
//	after drain_delay   listeners close, idle connections too
//	at drain_timeout    what is left is cut off
//
// Routes to addresses are served from the start, whatever Consul does. It
// returns an error only if an address cannot be bound. It is called once.
func (g *Gateway) Run(ctx context.Context) error {
	if err := g.bind(); err != nil {
		g.Close()
		return err
	}
	// What serves goes on while ctx has ended and the drain is under way.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running, belonging sync.WaitGroup
	for _, run := range []func(context.Context) error{g.plain.Run, g.mesh.clusters.Run, g.catalog.Run, g.follow, g.plugins.Run} {
		running.Go(func() { g.look(serving, run) })
	}
	belonging.Go(func() { g.member.run(ctx) })
	logging, stopLog := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLog()
	var writing sync.WaitGroup
	writing.Go(func() { g.look(logging, g.accessLog.Run) })

	<-ctx.Done()
	g.drain(context.WithoutCancel(ctx))
	belonging.Wait()
	stop()
	running.Wait()
	g.plain.Close()
	g.mesh.clusters.Close()
	// last, since every exchange has ended by now
	stopLog()
	writing.Wait()
	return nil
}

// bind binds all addresses or none.
func (g *Gateway) bind() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := generation{config: g.current, fronts: g.fronts}
	commit, err := g.listeners.Prepare(now.specs())
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	commit()
	g.serving.Store(true)
	for _, spec := range now.specs() {
		g.log.Info("listening", "listener", spec.Name, "address", spec.Address.String())
	}
	return nil
}

// follow follows xDS from the moment when Consul knows us: before, it would
// have nothing to say.
func (g *Gateway) follow(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case id := <-g.member.registered:
		if err := g.watch(ctx, id, g.mesh.clusters, g.mesh); err != nil {
			return fmt.Errorf("mesh services not followed any more: %w", err)
		}
		return nil
	}
}

// look runs a part and tells if it ends before its time. The rest goes on.
func (g *Gateway) look(ctx context.Context, run func(context.Context) error) {
	if err := run(ctx); err != nil && ctx.Err() == nil {
		g.log.Error("a part of the edge has ended", "err", err)
	}
}

// drain ends all connections without losing an exchange.
func (g *Gateway) drain(ctx context.Context) {
	g.mu.Lock()
	g.draining.Store(true)
	delay, timeout := g.current.drain()
	g.mu.Unlock()
	begin := time.Now()
	g.log.Info("stopping", "drain_delay", delay, "drain_timeout", timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if killed := g.listeners.Shutdown(ctx, delay); killed > 0 {
		g.log.Warn("connections cut off", "connections", killed)
	}
	g.log.Info("stopped", "after", time.Since(begin).Round(time.Millisecond))
}

// Reasons for which Ready says no.
var (
	errDraining   = errors.New("draining")
	errNotBound   = errors.New("not listening yet")
	errNoSnapshot = errors.New("waiting for Consul: mesh services are not known yet")
)

// Ready returns nil if traffic should be sent here, else the reason. While mesh
// services are not known the rest is already served.
func (g *Gateway) Ready() error {
	switch {
	case g.draining.Load():
		return errDraining
	case !g.serving.Load():
		return errNotBound
	case g.member.get() != nil && !g.mesh.ready():
		return errNoSnapshot
	default:
		return nil
	}
}
