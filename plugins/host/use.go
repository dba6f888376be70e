package host

import (
	"bytes"
	"encoding/json"
)

// Use is one use of a plugin in a configuration.
type Use struct {
	// Plugin is the Name of a Config.
	Plugin string
	// Place tells uses apart, for example `api "shop" route "cart"`. A use of the
	// same plugin with equal Settings at the same Place is the same one: it lives
	// on over a change of the configuration, with what it remembers.
	Place string
	// Settings for Plugin.New, as encoding/json would decode them; nil for none.
	Settings map[string]any
	// Authenticate and Transform tell what the place calls; a plugin that does
	// not have it is an error of the configuration.
	Authenticate, Transform bool
	// Pos is where the use stands, "" if it was not read from a file.
	Pos string
}

// useKey tells uses of one plugin apart.
type useKey struct{ place, settings string }

// key is comparable; it has the settings as JSON, with sorted keys.
func (u *Use) key() (useKey, error) {
	if len(u.Settings) == 0 {
		return useKey{place: u.Place}, nil
	}
	text, err := json.Marshal(u.Settings)
	if err != nil {
		return useKey{}, at(u.Pos, "plugin %q: settings cannot be written as JSON: %w", u.Plugin, err)
	}
	return useKey{u.Place, string(bytes.TrimSpace(text))}, nil
}
