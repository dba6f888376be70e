package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// Stats is how what is counted is shown (xDS: config.metrics.v3.StatsConfig).
type Stats struct {
	Tags []Tag
	// NoDefaultTags leaves out Envoy's own tags.
	NoDefaultTags bool
	// Reject leaves out all numbers; Only, if not nil, all but those that a
	// pattern matches; Not those that a pattern matches.
	Reject    bool
	Only, Not []Pattern
}

// Tag cuts a label out of the names of numbers, or is one of all of them.
type Tag struct {
	Name string
	// Regex's first group is what is cut out, its second, if there is one, the
	// label's value. "" with a Fixed value, and with neither for one of Envoy's
	// own tags.
	Regex, Fixed string
	HasFixed     bool
}

// Pattern matches a name. Exactly one field is set, but for IgnoreCase.
type Pattern struct {
	Exact, Prefix, Suffix, Contains, Regex string
	IgnoreCase                             bool
}

// Sink is where numbers are sent to.
type Sink struct {
	// Name and Type as in the file; Type without its "type.googleapis.com/".
	Name, Type string
	// Address to which datagrams go; zero if TCPCluster is set.
	Address mesh.Address
	// TCPCluster is a cluster to which lines go.
	TCPCluster string
	// Prefix of all names; "" means "envoy".
	Prefix string
	// MaxDatagram is how many bytes one may have; 0 means one line in each.
	MaxDatagram int
}

const (
	statsdType    = "envoy.config.metrics.v3.StatsdSink"
	dogStatsdType = "envoy.config.metrics.v3.DogStatsdSink"
	// maxDatagram is what a datagram of UDP can have.
	maxDatagram = 65507
	// flushInterval is Envoy's default.
	flushInterval = 5 * time.Second
)

// Dog tells whether the sink speaks DogStatsD, with tags.
func (s *Sink) Dog() bool { return s.Type == dogStatsdType }

type statsConfig struct {
	StatsTags []struct {
		TagName    string  `json:"tag_name"`
		Regex      string  `json:"regex"`
		FixedValue *string `json:"fixed_value"`
	} `json:"stats_tags"`
	UseAllDefaultTags *bool `json:"use_all_default_tags"`
	StatsMatcher      struct {
		RejectAll     bool      `json:"reject_all"`
		ExclusionList *patterns `json:"exclusion_list"`
		InclusionList *patterns `json:"inclusion_list"`
	} `json:"stats_matcher"`
	HistogramBucketSettings json.RawMessage `json:"histogram_bucket_settings"`
}

type patterns struct {
	Patterns []struct {
		Exact     string `json:"exact"`
		Prefix    string `json:"prefix"`
		Suffix    string `json:"suffix"`
		Contains  string `json:"contains"`
		SafeRegex struct {
			Regex string `json:"regex"`
		} `json:"safe_regex"`
		IgnoreCase bool `json:"ignore_case"`
	} `json:"patterns"`
}

func (p *patterns) list() []Pattern {
	out := []Pattern{}
	for _, one := range p.Patterns {
		out = append(out, Pattern{one.Exact, one.Prefix, one.Suffix, one.Contains, one.SafeRegex.Regex, one.IgnoreCase})
	}
	return out
}

type sink struct {
	Name        string `json:"name"`
	TypedConfig struct {
		Type                string      `json:"@type"`
		Address             *address    `json:"address"`
		TCPClusterName      string      `json:"tcp_cluster_name"`
		Prefix              string      `json:"prefix"`
		MaxBytesPerDatagram json.Number `json:"max_bytes_per_datagram"`
	} `json:"typed_config"`
}

// stats reads how numbers are shown and where they are sent to.
func (d *document) stats(config *Config) error {
	c := &d.StatsConfig
	for _, tag := range c.StatsTags {
		if tag.TagName == "" {
			return errors.New("stats_config.stats_tags: a tag without a tag_name")
		}
		out := Tag{Name: tag.TagName, Regex: tag.Regex}
		if tag.FixedValue != nil {
			out.Fixed, out.HasFixed = *tag.FixedValue, true
		}
		config.Stats.Tags = append(config.Stats.Tags, out)
	}
	config.Stats.NoDefaultTags = c.UseAllDefaultTags != nil && !*c.UseAllDefaultTags
	config.Stats.Reject = c.StatsMatcher.RejectAll
	if list := c.StatsMatcher.InclusionList; list != nil {
		config.Stats.Only = list.list()
	}
	if list := c.StatsMatcher.ExclusionList; list != nil {
		config.Stats.Not = list.list()
	}
	if c.HistogramBucketSettings != nil {
		config.Ignored = append(config.Ignored, "stats_config.histogram_bucket_settings")
	}
	config.FlushInterval = flushInterval
	if d.StatsFlushInterval != "" {
		interval, err := time.ParseDuration(d.StatsFlushInterval)
		if err != nil || interval < time.Millisecond || interval >= 5*time.Minute {
			return fmt.Errorf("stats_flush_interval: %q is no duration from 0.001s to 300s", d.StatsFlushInterval)
		}
		config.FlushInterval = interval
	}
	for i := range d.StatsSinks {
		if err := d.StatsSinks[i].read(config); err != nil {
			return fmt.Errorf("stats_sinks: %s: %w", d.StatsSinks[i].Name, err)
		}
	}
	return nil
}

func (s *sink) read(config *Config) error {
	c := &s.TypedConfig
	out := Sink{Name: s.Name, Type: typeName(c.Type), TCPCluster: c.TCPClusterName, Prefix: c.Prefix}
	if c.MaxBytesPerDatagram != "" {
		most, err := c.MaxBytesPerDatagram.Int64()
		if err != nil || most < 1 {
			return fmt.Errorf("max_bytes_per_datagram: %q is no number above 0", c.MaxBytesPerDatagram)
		}
		out.MaxDatagram = int(min(most, maxDatagram))
	}
	switch out.Type {
	case statsdType, dogStatsdType:
	default:
		// Numbers that are not sent do no harm; that they are not is told.
		config.Ignored = append(config.Ignored, fmt.Sprintf("stats sink %s of type %q", s.Name, out.Type))
		return nil
	}
	if c.TCPClusterName == "" {
		if c.Address == nil {
			return errors.New("no address")
		}
		var err error
		if out.Address, err = c.Address.mesh(); err != nil {
			return err
		}
	}
	config.Sinks = append(config.Sinks, out)
	return nil
}

func typeName(url string) string {
	for i := len(url) - 1; i >= 0; i-- {
		if url[i] == '/' {
			return url[i+1:]
		}
	}
	return url
}

// accessLogs are those of the admin endpoint, also where one stands without a list.
type accessLogs []struct {
	TypedConfig struct {
		Path string `json:"path"`
	} `json:"typed_config"`
}

// UnmarshalJSON takes one log or a list of them.
func (a *accessLogs) UnmarshalJSON(data []byte) error {
	type list accessLogs
	if err := json.Unmarshal(data, (*list)(a)); err == nil {
		return nil
	}
	return json.Unmarshal(append(append([]byte{'['}, data...), ']'), (*list)(a))
}

// adminLog is the first file of the admin endpoint's access log.
func (d *document) adminLog() string {
	path := d.Admin.AccessLogPath
	for _, log := range d.Admin.AccessLog {
		if path == "" {
			path = log.TypedConfig.Path
		}
	}
	if path == "/dev/null" {
		return ""
	}
	return path
}

// layers are those of the runtime.
type layers struct {
	Layers []layer `json:"layers"`
}

type layer struct {
	Name        string         `json:"name"`
	StaticLayer map[string]any `json:"static_layer"`
}

// runtime reads the static layers, which are shown and change nothing here.
func (d *document) runtime() []RuntimeLayer {
	var out []RuntimeLayer
	for _, layer := range d.LayeredRuntime.Layers {
		one := RuntimeLayer{Name: layer.Name, Values: map[string]string{}}
		for key, value := range layer.StaticLayer {
			one.Values[key] = fmt.Sprint(value)
		}
		out = append(out, one)
	}
	return out
}
