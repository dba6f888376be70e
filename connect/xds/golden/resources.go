package golden

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Resources are what the file holds, packed; a filter becomes a listener with
// little else.
func (f File) Resources() ([]*anypb.Any, error) {
	switch folder, _, _ := strings.Cut(f.Name, "/"); {
	case f.Whole():
		response, err := f.Response()
		return response.GetResources(), err
	case folder == "jwt_authn_clusters":
		return packed(f, &clusterv3.Cluster{}, func(m *clusterv3.Cluster) proto.Message { return m })
	case folder == "jwt_authn", strings.HasSuffix(f.Name, "--httpfilter"):
		return packed(f, &hcmv3.HttpFilter{}, aroundHTTP)
	default:
		return packed(f, &listenerv3.Filter{}, aroundTCP)
	}
}

func packed[M proto.Message](f File, msg M, around func(M) proto.Message) ([]*anypb.Any, error) {
	if err := f.Into(msg); err != nil {
		return nil, err
	}
	whole, err := Any(around(msg))
	return []*anypb.Any{whole}, err
}

func typed(msg proto.Message) *anypb.Any {
	whole, err := Any(msg)
	if err != nil {
		panic(err) // a message of our own
	}
	return whole
}

// aroundHTTP is a listener with one HTTP filter before the router. No filter at
// all is what Consul writes if there is nothing to check.
func aroundHTTP(f *hcmv3.HttpFilter) proto.Message {
	manager := &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router"}},
	}
	if f.GetName() != "" {
		manager.HttpFilters = append([]*hcmv3.HttpFilter{f}, manager.HttpFilters...)
	}
	return around(&listenerv3.Filter{Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(manager)}})
}

// aroundTCP is a listener with one network filter before tcp_proxy.
func aroundTCP(f *listenerv3.Filter) proto.Message {
	return around(f, &listenerv3.Filter{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{
		TypedConfig: typed(&tcpv3.TcpProxy{ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "local_app"}}),
	}})
}

func around(filters ...*listenerv3.Filter) proto.Message {
	return &listenerv3.Listener{
		Name: "golden", TrafficDirection: corev3.TrafficDirection_INBOUND,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: filters}},
	}
}
