package config

import (
	"bytes"
	"cmp"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/dns"
	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/admin"
	"github.com/serai-net/serai/edge"
)

// Config is one whole configuration: what all files together say. A nil field
// is a block that is not there.
type Config struct {
	// Consul says how to reach the Consul agent.
	Consul *catalog.Config `hcl:"consul,block,merge"`
	// Edge is the API gateway.
	Edge *edge.Config `hcl:"edge,block,merge"`
	// DNS is the DNS interface.
	DNS *dns.Config `hcl:"dns,block,merge"`
	// Admin is the operator's interface: readiness and metrics.
	Admin *admin.Config `hcl:"admin,block"`
	// Metrics bounds what is counted.
	Metrics *telemetry.MetricsConfig `hcl:"metrics,block"`
	// Log says how much Serai itself logs, and in which form.
	Log *telemetry.LogConfig `hcl:"log,block"`
}

// Load reads configuration files. A path is a file, or a directory whose *.hcl
// and *.json files are read in the order of their names; all files together are
// one configuration. The error, if there is one, is an [Errors] with all that
// is wrong, and nothing else has happened.
func Load(paths ...string) (*Config, error) {
	sources, errs := read(paths)
	if len(errs) > 0 {
		return nil, errs
	}
	return parse(sources)
}

// Parse reads one configuration that is already in memory. The name stands in
// errors, and file() is relative to its folder; a name that ends in .json is
// JSON.
func Parse(name string, data []byte) (*Config, error) {
	return parse([]source{{name, data}})
}

func parse(sources []source) (*Config, error) {
	d := &decoder{sources: map[string][]byte{}, contexts: map[string]*hcl.EvalContext{}}
	parser := hclparse.NewParser()
	var bodies []hcl.Body
	for _, one := range sources {
		d.sources[one.name] = one.data
		// a byte order mark, as some editors write it, is no part of HCL
		data := bytes.TrimPrefix(one.data, []byte("\xef\xbb\xbf"))
		read := parser.ParseHCL
		if filepath.Ext(one.name) == ".json" {
			read = parser.ParseJSON
		}
		file, diags := read(data, one.name)
		d.diagnostics(diags, place{})
		if !diags.HasErrors() {
			bodies = append(bodies, file.Body)
		}
	}
	if len(d.errs) > 0 {
		return nil, d.sorted(sources)
	}
	config := &Config{}
	d.body(hcl.MergeBodies(bodies), reflect.ValueOf(config).Elem(), place{})
	if len(d.errs) == 0 {
		d.validate(config)
	}
	if len(d.errs) > 0 {
		return nil, d.sorted(sources)
	}
	return config, nil
}

// validate asks each part. It is called only if the values themselves are in
// order: what a part would say of half-read values would mislead.
func (d *decoder) validate(config *Config) {
	var all []error
	if config.Consul != nil {
		all = append(all, config.Consul.Validate())
	}
	if config.Edge != nil {
		all = append(all, config.Edge.Validate())
	}
	if config.DNS != nil {
		all = append(all, config.DNS.Validate())
	}
	if config.Admin != nil {
		all = append(all, config.Admin.Validate())
	}
	if config.Metrics != nil {
		all = append(all, config.Metrics.Validate())
	}
	if config.Log != nil {
		all = append(all, config.Log.Validate())
	}
	for _, err := range flatten(errors.Join(all...)) {
		d.errs = append(d.errs, d.located(err))
	}
}

// located finds the position that a part has put in front of its error.
func (d *decoder) located(err error) *Error {
	text := err.Error()
	for name, data := range d.sources {
		rest, ok := strings.CutPrefix(text, name+":")
		if !ok {
			continue
		}
		number, rest, ok := strings.Cut(rest, ": ")
		line, parseErr := strconv.Atoi(number)
		if ok && parseErr == nil {
			return &Error{File: name, Line: line, Text: rest, Source: sourceLine(data, line)}
		}
	}
	return &Error{Text: text}
}

// sorted puts the errors in the order in which the user meets their places.
func (d *decoder) sorted(sources []source) Errors {
	rank := func(name string) int {
		return slices.IndexFunc(sources, func(s source) bool { return s.name == name })
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(rank(a.File), rank(b.File)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.errs
}
