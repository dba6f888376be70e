package edge

import (
	"fmt"
	"slices"

	"github.com/serai-net/serai/edge/extension"
	"github.com/serai-net/serai/plugins/host"
)

// validatePlugins checks the plugins themselves. Their files are looked at when
// they are started.
func (c *Config) validatePlugins(p *problems) {
	for i := range c.Plugins {
		one := &c.Plugins[i]
		for j := range i {
			if c.Plugins[j].Name == one.Name {
				p.add(one.Pos, "duplicate plugin %q%s", one.Name, firstAt(c.Plugins[j].Pos))
				break
			}
		}
		p.join(one.Validate())
	}
}

// validateUses checks what uses plugins: an API or a route, who.
func validateUses(p *problems, c *Config, uses []extension.Config, who string) {
	for i := range uses {
		one := &uses[i]
		p.join(one.Validate())
		if !c.hasPlugin(one.Name) {
			p.add(one.Pos, "plugin of %s: unknown plugin %q; %s", who, one.Name, c.pluginRemedy(one.Name))
		}
	}
}

func (c *Config) hasPlugin(name string) bool {
	return slices.ContainsFunc(c.Plugins, func(one host.Config) bool { return one.Name == name })
}

// pluginRemedy says what to do about a plugin that is not there.
func (c *Config) pluginRemedy(name string) string {
	var names []string
	for i := range c.Plugins {
		names = append(names, c.Plugins[i].Name)
	}
	return fmt.Sprintf("%s; add plugin %q { command = \"...\", checksum = \"sha256:...\" } to edge", quoted(names), name)
}
