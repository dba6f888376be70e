package edge

import (
	"context"
	"fmt"
	"iter"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/consumer"
	"github.com/serai-net/serai/edge/extension"
	"github.com/serai-net/serai/plugins/host"
)

// pluginUses are the plugins of a configuration, made ready.
type pluginUses struct {
	plan *host.Plan
	// instances by the block that uses one: *auth.Config or *extension.Config.
	instances map[any]*host.Instance
}

// planPlugins starts what c wants and does not run yet. Of a plan that does not
// come into force, Abort must be called.
func (g *Gateway) planPlugins(c *Config) (*pluginUses, error) {
	uses, blocks := usesOf(c)
	plan, err := g.plugins.Prepare(context.Background(), c.Plugins, uses)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	u := &pluginUses{plan: plan, instances: map[any]*host.Instance{}}
	for i := range uses {
		u.instances[blocks[i]] = plan.Instance(i)
	}
	return u, nil
}

// usesOf lists all uses of plugins, each with its block.
func usesOf(c *Config) (uses []host.Use, blocks []any) {
	add := func(block any, use host.Use) {
		uses = append(uses, use)
		blocks = append(blocks, block)
	}
	transforms := func(configs []extension.Config, place string) {
		for i := range configs {
			one := &configs[i]
			add(one, host.Use{Plugin: one.Name, Place: place, Settings: one.Settings, Transform: true, Pos: one.Pos})
		}
	}
	for i := range c.APIs {
		a := &c.APIs[i]
		if one := a.Authenticate; one != nil && one.Plugin != "" {
			add(one, host.Use{
				Plugin: one.Plugin, Place: fmt.Sprintf("authenticate of api %q", a.Name),
				Settings: one.Settings, Authenticate: true, Pos: one.Pos,
			})
		}
		transforms(a.Plugins, fmt.Sprintf("api %q", a.Name))
		for j := range a.Routes {
			transforms(a.Routes[j].Plugins, fmt.Sprintf("route %q of api %q", a.Routes[j].Name, a.Name))
		}
	}
	return uses, blocks
}

// authenticatePlugin is the layer of authenticate "plugin".
func (g *Gateway) authenticatePlugin(r *route, used *pluginUses, consumers *consumer.Store) wire.Layer {
	c := r.api.Authenticate
	instance := used.instances[c]
	known := func(name string) bool { return consumers.ByName(name) != nil }
	return extension.Authenticate(g.use(instance, c.FailMode), instance, known)
}

// transformPlugins are the layers of the API's and the route's plugins, in order.
func (g *Gateway) transformPlugins(r *route, used *pluginUses) wire.Layer {
	var layers []wire.Layer
	for _, configs := range [][]extension.Config{r.api.Plugins, r.config.Plugins} {
		for i := range configs {
			instance := used.instances[&configs[i]]
			layers = append(layers, extension.Transform(g.use(instance, configs[i].FailMode), instance))
		}
	}
	if layers == nil {
		return nil
	}
	return func(next wire.Service) wire.Service { return wire.Stack(next, layers...) }
}

func (g *Gateway) use(instance *host.Instance, failMode string) *extension.Use {
	return &extension.Use{
		Plugin: instance.Plugin(), Open: failMode == "open", MaxBody: instance.Bodies(),
		Normalize: NormalizePath, Counters: g.pluginCounters(instance.Plugin()), Log: g.log,
	}
}

// pluginCounters are those of a plugin's name, which live on over reloads.
func (g *Gateway) pluginCounters(name string) *extension.Counters {
	counters, _ := g.extensions.LoadOrStore(name, &extension.Counters{})
	return counters.(*extension.Counters) //nolint:errcheck // nothing else is stored
}

// PluginStats are the counters of one plugin.
type PluginStats struct {
	// Stats are those of its processes and calls.
	host.Stats
	// FailedClosed and FailedOpen are exchanges for which it failed, by fail mode;
	// UnknownConsumers those for which it named a consumer that there is not.
	FailedClosed, FailedOpen, UnknownConsumers int64
}

// All yields the counters by name.
func (s PluginStats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for name, value := range s.Stats.All() {
			if !yield(name, value) {
				return
			}
		}
		_ = yield("failed_closed", s.FailedClosed) && yield("failed_open", s.FailedOpen) &&
			yield("unknown_consumers", s.UnknownConsumers)
	}
}

// PluginStats returns the counters of all plugins in force, by name.
func (g *Gateway) PluginStats() []PluginStats {
	var all []PluginStats
	for _, one := range g.plugins.Stats() {
		c := g.pluginCounters(one.Name)
		all = append(all, PluginStats{
			Stats: one, FailedClosed: c.FailedClosed.Load(), FailedOpen: c.FailedOpen.Load(),
			UnknownConsumers: c.UnknownConsumers.Load(),
		})
	}
	return all
}
