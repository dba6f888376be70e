// Command header-map is a plugin that renames, sets and removes header fields by
// rules. See README.md.
package main

import (
	"log/slog"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/bundled/header-map/internal/rules"
)

const version = "1.0.0"

func main() {
	plugins.Serve(plugins.Plugin{
		Name: "header-map", Version: version,
		New: func(settings map[string]any, _ *slog.Logger) (any, error) { return rules.New(settings) },
	})
}
