package stack

import (
	"fmt"
	"net/http"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// Forward is a service that sends every request to one cluster, whatever a route
// table would say: by what its host is chosen, and what is repeated. policy may be
// nil, and must have no header matches. The cluster is looked up for each request.
func Forward(clusters *upstream.Set, name string, hashes []mesh.HashPolicy, policy *mesh.Retry) wire.Service {
	var retries *retryPolicy
	if policy != nil {
		retries = &retryPolicy{Retry: policy}
	}
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		cluster := clusters.Cluster(name)
		if cluster == nil {
			x.Cluster = name
			return nil, &wire.Fault{
				Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Text: "this service is not available",
				Err: fmt.Errorf("cluster %q is not known", name),
			}
		}
		if len(hashes) == 0 {
			return retry(cluster, retries, x, req, telling{})
		}
		setCookie := hash(hashes, x, req)
		resp, err := retry(cluster, retries, x, req, telling{})
		if err == nil && setCookie != "" {
			resp.Header.Add("set-cookie", setCookie)
		}
		return resp, err
	})
}
