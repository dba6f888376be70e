package accesslog

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// Filter tells whether something is logged.
type Filter func(in *format.Input) bool

// CompileFilter compiles f. It fails for one that is empty, or has a pattern that is no
// expression.
func CompileFilter(f *mesh.LogFilter) (Filter, error) {
	switch {
	case f.All != nil:
		return compileAll(f.All, false)
	case f.Any != nil:
		return compileAll(f.Any, true)
	case f.Status != nil:
		return func(in *format.Input) bool { return compare(f.Status, int64(in.Exchange.Status)) }, nil
	case f.Duration != nil:
		return func(in *format.Input) bool {
			return compare(f.Duration, in.Duration().Milliseconds())
		}, nil
	case f.HasFlags:
		return func(in *format.Input) bool { return flagged(f.Flags, in) }, nil
	case f.GRPC != nil:
		return func(in *format.Input) bool {
			status, ok := in.GRPCStatus()
			if !ok {
				status = 2 // unknown, as Envoy takes it
			}
			return slices.Contains(f.GRPC, int(status)) != f.Exclude
		}, nil
	case f.Header != nil:
		m, err := match.Header(*f.Header)
		if err != nil {
			return nil, err
		}
		return func(in *format.Input) bool { return in.Exchange.Request != nil && m.Match(in.Exchange.Request) }, nil
	case f.HasPercent:
		return func(*format.Input) bool { return rand.Uint32N(1_000_000) < f.Percent }, nil //nolint:gosec // a sample
	case f.NoHealthCheck:
		return func(in *format.Input) bool { return !in.Exchange.HealthCheck }, nil
	case f.Traced:
		// Envoy's name says more than it does: those by chance are none.
		return func(in *format.Input) bool { return in.Exchange.TraceForced && !in.Exchange.HealthCheck }, nil
	case f.Metadata != nil:
		return compileMetadata(f.Metadata)
	case f.Types != nil:
		return func(in *format.Input) bool { return slices.Contains(f.Types, in.LogType) != f.Exclude }, nil
	}
	return nil, errors.New("an access log's filter is empty")
}

func compileAll(filters []*mesh.LogFilter, anyOf bool) (Filter, error) {
	var all []Filter
	for _, f := range filters {
		one, err := CompileFilter(f)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return func(in *format.Input) bool {
		for _, one := range all {
			if one(in) == anyOf {
				return anyOf
			}
		}
		return !anyOf
	}, nil
}

func compare(c *mesh.LogComparison, n int64) bool {
	want := int64(c.Value)
	switch c.Op {
	case mesh.Equal:
		return n == want
	case mesh.AtLeast:
		return n >= want
	case mesh.AtMost:
		return n <= want
	case mesh.Unequal:
		return n != want
	}
	return false
}

// flagged tells whether one of flags is set; no flags mean any.
func flagged(flags []string, in *format.Input) bool {
	var memory [64]byte
	set := in.Exchange.AppendFlags(memory[:0], false)
	if string(set) == "-" {
		return false
	}
	if len(flags) == 0 {
		return true
	}
	for flag := range strings.SplitSeq(string(set), ",") {
		if slices.Contains(flags, flag) {
			return true
		}
	}
	return false
}

func compileMetadata(m *mesh.LogMetadata) (Filter, error) {
	value, err := match.Metadata(m.Value)
	if err != nil {
		return nil, err
	}
	return func(in *format.Input) bool {
		v, ok := in.Exchange.Metadata.Lookup(m.Filter, m.Path)
		if !ok {
			return m.Missing
		}
		return value.Match(v, true) // Envoy does not look at Invert either
	}, nil
}
