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
type Config struct {
	// Kind is "api_key": the request carries one of a consumer's keys.
	Kind string `hcl:"kind,label"`
	// Header that carries the key; "" means "x-api-key".
	Header string `hcl:"header,optional"`
	// Query is a query parameter that may carry the key instead; "" for none.
	// Keys in URLs end up in browser histories and foreign logs.
	Query string `hcl:"query,optional"`
	// ForwardKey leaves the key in what is sent upstream. Otherwise it is cut
	// out, so that an upstream never learns it.
	ForwardKey bool `hcl:"forward_key,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// DefaultHeader carries the key if nothing else is said.
const DefaultHeader = "x-api-key"

// Validate tells what is wrong, with the block's position in front.
func (c *Config) Validate() error {
	var errs []error
	if c.Kind != "api_key" {
		errs = append(errs, c.errorf("authenticate %q is not known; there is authenticate \"api_key\"", c.Kind))
	}
	if c.Header != "" && !httpguts.ValidHeaderFieldName(c.Header) {
		errs = append(errs, c.errorf("authenticate %q: header is %q, which is no header name; write for example \"x-api-key\"",
			c.Kind, c.Header))
	}
	if c.Query != "" && !httpguts.ValidHeaderFieldName(c.Query) {
		errs = append(errs, c.errorf("authenticate %q: query is %q, which is no parameter name; write for example \"api_key\"",
			c.Kind, c.Query))
	}
	return errors.Join(errs...)
}

func (c *Config) errorf(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if c.Pos != "" {
		text = c.Pos + ": " + text
	}
	return errors.New(text)
}
