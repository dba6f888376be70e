// Package agent runs any set of Serai's roles in one process, from one
// configuration. It is the only package that knows all parts.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/agent/telemetry"
)

// Agent is a process with its roles.
type Agent struct {
	// set by New
	roles   map[string]role // by block
	metrics *telemetry.Metrics
	log     *slog.Logger

	reloading sync.Mutex // held by Reload; guards:
	// config is the one in force.
	config *config.Config
}

// role is a part of the process that serves.
type role interface {
	// Run serves until ctx ends, and then drains. It returns an error only if
	// it could not begin.
	Run(ctx context.Context) error
	// Ready returns nil if traffic should be sent here, else the reason.
	Ready() error
	// reload puts what c says of the role in force; on an error the old stays.
	// c has the role's block.
	reload(c *config.Config) error
}

// maker is a kind of role: what its block is called, whether a configuration
// has it, and how one is made.
type maker struct {
	block string
	given func(c *config.Config) bool
	make  func(c *config.Config, d deps) (role, error)
}

// deps are what roles are made of.
type deps struct {
	consul catalog.Config
	client *catalog.Client
	stdout io.Writer
	// metrics count what passes; roles add what they count themselves.
	metrics *telemetry.Metrics
	log     *slog.Logger
}

func makers() []maker {
	return []maker{
		{"edge", func(c *config.Config) bool { return c.Edge != nil }, newEdge},
		{"dns", func(c *config.Config) bool { return c.DNS != nil }, newDNS},
	}
}

// errNoRole: nothing to run.
var errNoRole = errors.New("the configuration has neither an edge nor a dns block, so there is nothing to run")

// New makes an Agent with each role that c has a block for. The whole
// configuration is checked and nothing is bound before Run. consul says how to
// reach Consul, all defaults filled in; stdout takes access logs whose path is
// "-".
func New(c *config.Config, consul catalog.Config, stdout io.Writer, log *slog.Logger) (*Agent, error) {
	client, err := catalog.NewClient(consul)
	if err != nil {
		return nil, err
	}
	a := &Agent{roles: map[string]role{}, config: c, metrics: telemetry.NewMetrics(c.Metrics), log: log}
	for _, m := range makers() {
		if !m.given(c) {
			continue
		}
		r, err := m.make(c, deps{consul: consul, client: client, stdout: stdout, metrics: a.metrics, log: log})
		if err != nil {
			return nil, err
		}
		a.roles[m.block] = r
	}
	if len(a.roles) == 0 {
		return nil, errNoRole
	}
	return a, nil
}

// Run serves until ctx ends, and then drains. If a role cannot begin, the
// others are stopped, and the error says why.
func (a *Agent) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		all     error
	)
	operator, err := a.listenAdmin()
	if err != nil {
		return err
	}
	serving, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	var asked sync.WaitGroup
	asked.Go(func() {
		if err := operator.Run(serving); err != nil {
			a.log.Error("a part of the agent has ended", "err", err)
		}
	})
	for _, r := range a.roles {
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				mu.Lock()
				all = errors.Join(all, err)
				mu.Unlock()
				stop()
			}
		})
	}
	running.Wait()
	// the last: a drain can be watched
	stopAdmin()
	asked.Wait()
	return all
}

// Reload puts another configuration in force, in all roles or in none: if it is
// wrong for one, those that had taken it go back to the old one.
func (a *Agent) Reload(c *config.Config) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if err := a.reloadable(c); err != nil {
		return err
	}
	for _, m := range makers() {
		if (a.roles[m.block] != nil) != m.given(c) {
			return fmt.Errorf("the block %q has come or gone: restart to begin or end a role", m.block)
		}
	}
	var taken []role
	for _, m := range makers() {
		r := a.roles[m.block]
		if r == nil {
			continue
		}
		if err := r.reload(c); err != nil {
			for _, back := range taken {
				err = errors.Join(err, back.reload(a.config))
			}
			return err
		}
		taken = append(taken, r)
	}
	a.config = c
	return nil
}

// Ready returns nil if traffic should be sent here, else the reason.
func (a *Agent) Ready() error {
	for _, r := range a.roles {
		if err := r.Ready(); err != nil {
			return err
		}
	}
	return nil
}
