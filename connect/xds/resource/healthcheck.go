package resource

import (
	"fmt"

	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
)

const healthCheckType = "envoy.extensions.filters.http.health_check.v3.HealthCheck"

func (d *decoder) healthCheck(config *anypb.Any) (*mesh.HealthCheck, error) {
	msg := &healthv3.HealthCheck{}
	if err := unpack(config, msg); err != nil {
		return nil, err
	}
	if err := d.only(msg, "pass_through_mode cache_time cluster_min_healthy_percentages headers", ""); err != nil {
		return nil, err
	}
	h := &mesh.HealthCheck{PassThrough: msg.GetPassThroughMode().GetValue(), CacheTime: duration(msg.GetCacheTime(), 0)}
	switch {
	case msg.GetPassThroughMode() == nil:
		return nil, fmt.Errorf("no pass_through_mode")
	case !h.PassThrough && h.CacheTime > 0:
		return nil, fmt.Errorf("cache_time without pass_through_mode")
	case h.PassThrough && len(msg.GetClusterMinHealthyPercentages()) > 0:
		return nil, fmt.Errorf("cluster_min_healthy_percentages with pass_through_mode")
	}
	for _, m := range msg.GetHeaders() {
		header, err := headerMatch(m)
		if err != nil {
			return nil, err
		}
		h.Headers = append(h.Headers, header)
	}
	for name, percent := range msg.GetClusterMinHealthyPercentages() {
		if h.Clusters == nil {
			h.Clusters = map[string]float64{}
		}
		h.Clusters[name] = percent.GetValue()
	}
	return h, nil
}
