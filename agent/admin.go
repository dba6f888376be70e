package agent

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/admin"
	"github.com/serai-net/serai/connect/xds"
)

// listenAdmin binds the admin interface; a nil Server is none.
func (a *Agent) listenAdmin() (*admin.Server, error) {
	a.reloading.Lock()
	c := a.config.Admin
	a.reloading.Unlock()
	if c == nil {
		return nil, nil //nolint:nilnil // no block, no server: its methods do nothing
	}
	a.metrics.Add(telemetry.Ready(a.Ready))
	metrics, err := telemetry.Handler(a.metrics, admin.Version(), a.log)
	if err != nil {
		return nil, err
	}
	return admin.Listen(admin.Options{Address: c.Address, Source: a, Metrics: metrics}, a.log)
}

// reloadable tells what of c cannot be changed while the agent runs.
func (a *Agent) reloadable(c *config.Config) error {
	var all error
	if old, next := addressOf(a.config.Admin), addressOf(c.Admin); old != next {
		all = errors.Join(all, fmt.Errorf("%sadmin: address was %q and is %q now: restart to change it", positionOf(c.Admin), old, next))
	}
	if old, next := seriesOf(a.config.Metrics), seriesOf(c.Metrics); old != next {
		all = errors.Join(all, fmt.Errorf("metrics: max_series was %d and is %d now: restart to change it", old, next))
	}
	return all
}

func addressOf(c *admin.Config) string {
	if c == nil {
		return ""
	}
	return c.Address
}

func positionOf(c *admin.Config) string {
	if c == nil || c.Pos == "" {
		return ""
	}
	return c.Pos + ": "
}

func seriesOf(c *telemetry.MetricsConfig) int {
	if c == nil {
		return 0
	}
	return c.MaxSeries
}

// Stats implements [admin.Source]: what all roles count.
func (a *Agent) Stats() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, block := range slices.Sorted(maps.Keys(a.roles)) {
			counting, ok := a.roles[block].(interface {
				Stats() iter.Seq2[string, int64]
			})
			if !ok {
				continue
			}
			for name, value := range counting.Stats() {
				if !yield(name, value) {
					return
				}
			}
		}
	}
}

// controlPlane shows how a watcher fares, at each scrape.
func controlPlane(watcher *xds.Watcher) iter.Seq[telemetry.Sample] {
	return func(yield func(telemetry.Sample) bool) {
		status := watcher.Status()
		telemetry.ControlPlane(status.All())(yield)
	}
}
