// Package auth finds out who calls: the layers by which a request proves to be
// of a consumer.
package auth

import (
	"errors"
	"fmt"

	"golang.org/x/net/http/httpguts"
)

// Config is one way to authenticate.
//
//	authenticate "api_key" {
//	  header = "x-api-key"
//	}
//
//	authenticate "plugin" {
//	  plugin   = "hmac-auth"
//	  settings = { keys = { laptop = { secret = env("ACME_SECRET"), consumer = "acme" } } }
//	}
type Config struct {
	// Kind is "api_key": the request carries one of a consumer's keys, or
	// "plugin": a plugin finds out who calls.
	Kind string `hcl:"kind,label"`
	// Header that carries the key; "" means "x-api-key".
	Header string `hcl:"header,optional"`
	// Query is a query parameter that may carry the key instead; "" for none.
	// Keys in URLs end up in browser histories and foreign logs.
	Query string `hcl:"query,optional"`
	// ForwardKey leaves the key in what is sent upstream. Otherwise it is cut
	// out, so that an upstream never learns it.
	ForwardKey bool `hcl:"forward_key,optional"`
	// Plugin is the name of a plugin of the edge.
	Plugin string `hcl:"plugin,optional"`
	// Settings are the plugin's own; its documentation has them.
	Settings map[string]any `hcl:"settings,optional"`
	// FailMode says what becomes of a request for which the plugin does not
	// answer, or not as it should: "closed" (or "") answers 503, "open" lets it
	// through with an unknown caller. That makes an API open to all whenever its
	// plugin fails, unless allow_consumers is given, which still denies.
	FailMode string `hcl:"fail_mode,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// DefaultHeader carries the key if nothing else is said.
const DefaultHeader = "x-api-key"

// The kinds of authentication.
const (
	KindAPIKey = "api_key"
	KindPlugin = "plugin"
)

// Validate tells what is wrong, with the block's position in front. It does not
// know which plugins there are.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, c.errorf(format, args...)) }
	switch c.Kind {
	case KindAPIKey:
		if c.Plugin != "" || c.Settings != nil || c.FailMode != "" {
			bad("authenticate %q: plugin, settings and fail_mode go with authenticate \"plugin\"", c.Kind)
		}
	case KindPlugin:
		c.validatePlugin(bad)
	default:
		bad("authenticate %q is not known; there is authenticate \"api_key\" and authenticate \"plugin\"", c.Kind)
	}
	if c.Header != "" && !httpguts.ValidHeaderFieldName(c.Header) {
		bad("authenticate %q: header is %q, which is no header name; write for example \"x-api-key\"", c.Kind, c.Header)
	}
	if c.Query != "" && !httpguts.ValidHeaderFieldName(c.Query) {
		bad("authenticate %q: query is %q, which is no parameter name; write for example \"api_key\"", c.Kind, c.Query)
	}
	return errors.Join(errs...)
}

func (c *Config) validatePlugin(bad func(format string, args ...any)) {
	if c.Plugin == "" {
		bad("authenticate %q: plugin is missing; name one, such as plugin = \"hmac-auth\"", c.Kind)
	}
	if c.Header != "" || c.Query != "" || c.ForwardKey {
		bad("authenticate %q: header, query and forward_key go with authenticate \"api_key\"", c.Kind)
	}
	switch c.FailMode {
	case "", "closed", "open":
	default:
		bad("authenticate %q: fail_mode is %q; it can be \"closed\" or \"open\"", c.Kind, c.FailMode)
	}
}

func (c *Config) errorf(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if c.Pos != "" {
		text = c.Pos + ": " + text
	}
	return errors.New(text)
}
