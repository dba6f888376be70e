package extension

import (
	"errors"
	"fmt"
)

// Config is one use of a plugin, which changes requests and responses.
//
//	plugin "header-map" {
//	  fail_mode = "closed"
//	  settings  = {
//	    request = [{ rename = "x-old", to = "x-new" }]
//	  }
//	}
type Config struct {
	// Name of the plugin, a block of the edge.
	Name string `hcl:"name,label"`
	// Settings are the plugin's own; its documentation has them.
	Settings map[string]any `hcl:"settings,optional"`
	// FailMode says what becomes of an exchange for which the plugin does not
	// answer, or not as it should: "closed" (or "") answers 503, "open" goes on
	// without the plugin.
	FailMode string `hcl:"fail_mode,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells what is wrong, with the block's position in front. It does not
// know which plugins there are.
func (c *Config) Validate() error {
	switch c.FailMode {
	case "", "closed", "open":
		return nil
	}
	text := fmt.Sprintf(`plugin %q: fail_mode is %q; it can be "closed" or "open"`, c.Name, c.FailMode)
	if c.Pos != "" {
		text = c.Pos + ": " + text
	}
	return errors.New(text)
}
