package resource

import (
	"errors"
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// maxFilterDepth bounds how deep filters of logs may be nested.
const maxFilterDepth = 16

func (d *decoder) logFilter(msg *accesslogv3.AccessLogFilter, depth int) (*mesh.LogFilter, error) {
	if depth > maxFilterDepth {
		return nil, fmt.Errorf("filters nested deeper than %d", maxFilterDepth)
	}
	f := &mesh.LogFilter{}
	var err error
	switch s := msg.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		f.Status, err = logComparison(s.StatusCodeFilter.GetComparison())
	case *accesslogv3.AccessLogFilter_DurationFilter:
		f.Duration, err = logComparison(s.DurationFilter.GetComparison())
	case *accesslogv3.AccessLogFilter_NotHealthCheckFilter:
		f.NoHealthCheck = true
	case *accesslogv3.AccessLogFilter_TraceableFilter:
		f.Traced = true
	case *accesslogv3.AccessLogFilter_RuntimeFilter:
		f.HasPercent = true
		f.Percent, err = millionths(s.RuntimeFilter.GetPercentSampled())
		if s.RuntimeFilter.GetPercentSampled() == nil {
			err = errors.New("runtime_filter without percent_sampled: there is no runtime") // its default is 0
			f.Percent = 0
		}
	case *accesslogv3.AccessLogFilter_AndFilter:
		f.All, err = d.logFilters(s.AndFilter.GetFilters(), depth)
	case *accesslogv3.AccessLogFilter_OrFilter:
		f.Any, err = d.logFilters(s.OrFilter.GetFilters(), depth)
	case *accesslogv3.AccessLogFilter_HeaderFilter:
		h, bad := headerMatch(s.HeaderFilter.GetHeader())
		f.Header, err = &h, bad
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		f.Flags, f.HasFlags = s.ResponseFlagFilter.GetFlags(), true
	case *accesslogv3.AccessLogFilter_GrpcStatusFilter:
		f.GRPC, f.Exclude = []int{}, s.GrpcStatusFilter.GetExclude()
		for _, status := range s.GrpcStatusFilter.GetStatuses() {
			f.GRPC = append(f.GRPC, int(status))
		}
	case *accesslogv3.AccessLogFilter_MetadataFilter:
		f.Metadata, err = d.logMetadata(s.MetadataFilter)
	case *accesslogv3.AccessLogFilter_LogTypeFilter:
		f.Types, f.Exclude = []string{}, s.LogTypeFilter.GetExclude()
		for _, typ := range s.LogTypeFilter.GetTypes() {
			f.Types = append(f.Types, typ.String())
		}
	default:
		return nil, fmt.Errorf("access log filter %T is not supported", s)
	}
	return f, err
}

func (d *decoder) logFilters(msgs []*accesslogv3.AccessLogFilter, depth int) ([]*mesh.LogFilter, error) {
	all := []*mesh.LogFilter{}
	for _, msg := range msgs {
		f, err := d.logFilter(msg, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func logComparison(msg *accesslogv3.ComparisonFilter) (*mesh.LogComparison, error) {
	c := &mesh.LogComparison{Value: msg.GetValue().GetDefaultValue()}
	switch msg.GetOp() {
	case accesslogv3.ComparisonFilter_EQ:
		c.Op = mesh.Equal
	case accesslogv3.ComparisonFilter_GE:
		c.Op = mesh.AtLeast
	case accesslogv3.ComparisonFilter_LE:
		c.Op = mesh.AtMost
	case accesslogv3.ComparisonFilter_NE:
		c.Op = mesh.Unequal
	default:
		return nil, fmt.Errorf("comparison %d is not supported", msg.GetOp())
	}
	return c, nil
}

// millionths is a share of a million.
func millionths(p *typev3.FractionalPercent) (uint32, error) {
	const million = 1_000_000
	each := uint32(1)
	switch p.GetDenominator() {
	case typev3.FractionalPercent_HUNDRED:
		each = million / 100
	case typev3.FractionalPercent_TEN_THOUSAND:
		each = million / 10_000
	case typev3.FractionalPercent_MILLION:
	default:
		return 0, fmt.Errorf("denominator %d is not supported", p.GetDenominator())
	}
	return min(p.GetNumerator(), million/each) * each, nil
}

func (d *decoder) logMetadata(msg *accesslogv3.MetadataFilter) (*mesh.LogMetadata, error) {
	matcher, err := d.metadata(msg.GetMatcher())
	if err != nil {
		return nil, err
	}
	if matcher.Invert {
		d.note("MetadataFilter.matcher.invert is ignored, as Envoy does")
	}
	return &mesh.LogMetadata{
		MetadataMatch: *matcher, Missing: msg.GetMatchIfKeyNotFound() == nil || msg.GetMatchIfKeyNotFound().GetValue(),
	}, nil
}
