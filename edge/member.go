package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
)

const (
	// tendEvery is how often the agent is asked whether it still knows us, and
	// told that we are well; it is well below ttl.
	tendEvery = 10 * time.Second
	// callTimeout bounds one call of the agent.
	callTimeout = 5 * time.Second
	// firstBackoff doubles up to lastBackoff while Consul does not do as asked.
	firstBackoff, lastBackoff = 500 * time.Millisecond, 5 * time.Second
	// tellAgain is how often the same trouble is told of.
	tellAgain = time.Minute
)

// member keeps the edge registered with the local Consul agent, which forgets
// us if it restarts without its data.
type member struct {
	// set by newMember
	consul *api.Client
	log    *slog.Logger
	wake   chan struct{}
	// registered gets the proxy's ID once, when Consul has us for the first time.
	registered chan string

	// owned by run
	done   *registration // what Consul has
	told   bool          // registered has got its ID
	said   string
	saidAt time.Time

	mu     sync.Mutex // guards:
	wanted *registration
}

func newMember(consul *api.Client, log *slog.Logger) *member {
	return &member{consul: consul, log: log, wake: make(chan struct{}, 1), registered: make(chan string, 1)}
}

// want says what should be registered; nil for nothing.
func (m *member) want(r *registration) {
	m.mu.Lock()
	if !r.equal(m.wanted) {
		m.wanted = r
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *member) get() *registration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted
}

// run keeps what is wanted registered until ctx ends, and then takes it back.
func (m *member) run(ctx context.Context) {
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		next := tendEvery
		if err := m.tend(ctx, m.get()); err != nil && ctx.Err() == nil {
			m.tell(err)
			backoff = min(max(2*backoff, firstBackoff), lastBackoff)
			next = backoff/2 + rand.N(backoff)
		} else {
			backoff = 0
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-m.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	m.leave(context.WithoutCancel(ctx))
}

// tend makes Consul have what is wanted.
func (m *member) tend(ctx context.Context, wanted *registration) error {
	if wanted == nil {
		m.leave(ctx)
		return nil
	}
	if m.done != nil {
		err := m.check(ctx, m.done)
		switch {
		case catalog.IsNotFound(err):
			m.log.Warn("consul has forgotten the edge, registering it again", "id", wanted.id)
			m.done = nil
		case err != nil:
			return err
		}
	}
	if m.done == wanted {
		return nil
	}
	for _, service := range wanted.services() {
		if err := m.register(ctx, service); err != nil {
			return fmt.Errorf("register %q: %w", service.ID, catalog.Explain(err, wanted.permission()))
		}
	}
	m.log.Info("edge registered in consul", "service", wanted.service, "id", wanted.id, "upstreams", len(wanted.upstreams))
	m.done, m.said = wanted, ""
	if !m.told {
		m.told = true
		m.registered <- wanted.proxyID()
	}
	return nil
}

func (m *member) register(ctx context.Context, service *api.AgentServiceRegistration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return m.consul.Agent().ServiceRegisterOpts(service, api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx))
}

// check tells Consul that we are well, and asks whether both of our services
// are still there.
func (m *member) check(ctx context.Context, r *registration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	options := (&api.QueryOptions{}).WithContext(ctx)
	if err := m.consul.Agent().UpdateTTLOpts(r.checkID(), "", api.HealthPassing, options); err != nil {
		return fmt.Errorf("tell consul that the edge is well: %w", catalog.Explain(err, r.permission()))
	}
	if _, _, err := m.consul.Agent().Service(r.proxyID(), options); err != nil {
		return fmt.Errorf("look up %q: %w", r.proxyID(), catalog.Explain(err, r.permission()))
	}
	return nil
}

// leave takes the registration back, the proxy first. It tries once: what is
// left over, Consul forgets by itself.
func (m *member) leave(ctx context.Context) {
	if m.done == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var errs []error
	for _, id := range []string{m.done.proxyID(), m.done.id} {
		err := m.consul.Agent().ServiceDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil && !catalog.IsNotFound(err) {
			errs = append(errs, catalog.Explain(err, m.done.permission()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		m.log.Warn("edge not deregistered from consul, which forgets it by itself", "after", forgetAfter, "err", err)
	} else {
		m.log.Info("edge deregistered from consul", "id", m.done.id)
	}
	m.done = nil
}

// tell logs trouble when it is new, and again from time to time.
func (m *member) tell(err error) {
	if text := err.Error(); text != m.said || time.Since(m.saidAt) > tellAgain {
		m.said, m.saidAt = text, time.Now()
		m.log.Warn("edge not registered in consul, trying again", "err", err)
	}
}
