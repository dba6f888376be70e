package resource_test

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/serai-net/serai/connect/xds/resource"
)

func FuzzListener(f *testing.F) {
	f.Add(bytesOf(f, `{"name":"l",`+address+`,"filterChains":[{"filters":[`+tcp+`]}]}`, &listenerv3.Listener{}))
	f.Add(bytesOf(f, `{"name":"l",`+address+`,"filterChains":[{"filters":[{"name":"hcm","typedConfig":{"@type":"`+network+`http_connection_manager.v3.HttpConnectionManager",
		"routeConfig":{"virtualHosts":[{"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}]},"httpFilters":[
		{"name":"rbac","typedConfig":{"@type":"`+filters+`rbac.v3.RBAC","rules":{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"andIds":{"ids":[{"any":true}]}}]}}}}},`+router+`]}}]}]}`, &listenerv3.Listener{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, _, err := resource.Listener(body)
		if (l == nil) == (err == nil) {
			t.Errorf("got %v and %v", l, err)
		}
		if l == nil {
			return
		}
		for _, c := range l.Chains {
			if set := count(c.TCP != nil, c.HTTP != nil, c.Refusal != ""); set != 1 {
				t.Errorf("%d of TCP, HTTP and Refusal are set: %+v", set, c)
			}
		}
	})
}

func count(flags ...bool) int {
	n := 0
	for _, flag := range flags {
		if flag {
			n++
		}
	}
	return n
}

func FuzzCluster(f *testing.F) {
	f.Add(bytesOf(f, `{`+eds+`,"outlierDetection":{},"transportSocket":`+upstream+`"commonTlsContext":{`+leaf+`,"validationContext":{`+ca+`}}}}}`, &clusterv3.Cluster{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, _, err := resource.Cluster(body)
		if (c == nil) == (err == nil) {
			t.Errorf("got %v and %v", c, err)
		}
	})
}

func FuzzRoute(f *testing.F) {
	f.Add(bytesOf(f, `{"virtualHosts":[{"domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c","regexRewrite":{"pattern":{"regex":"^/a(/?)(.*)"},"substitution":"/\\2"}}}]}]}`, &routev3.RouteConfiguration{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, _, err := resource.Route(body)
		if (r == nil) == (err == nil) {
			t.Errorf("got %v and %v", r, err)
		}
		if r == nil {
			return
		}
		for _, vh := range r.VirtualHosts {
			for _, rule := range vh.Rules {
				if set := count(rule.Targets != nil, rule.Direct != nil, rule.Redirect != nil, rule.Refusal != ""); set != 1 {
					t.Errorf("%d of Targets, Direct, Redirect and Refusal are set: %+v", set, rule)
				}
			}
		}
	})
}

func FuzzEndpoints(f *testing.F) {
	f.Add(bytesOf(f, `{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":80}}}}]}]}`, &endpointv3.ClusterLoadAssignment{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		set, _, err := resource.Endpoints(body)
		if (set == nil) == (err == nil) {
			t.Errorf("got %v and %v", set, err)
		}
	})
}
