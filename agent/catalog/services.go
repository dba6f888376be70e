package catalog

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Service is a service of the catalog.
type Service struct {
	Name string
	// Mesh says that it has a Connect proxy.
	Mesh bool
}

// proxySuffix ends the names of sidecars that Consul makes.
const proxySuffix = "-sidecar-proxy"

// FollowServices calls changed with all services that are not Consul's own, nor
// proxies, whenever they change, until ctx ends. While Consul is gone nothing
// changes.
func FollowServices(ctx context.Context, client *api.Client, changed func([]Service)) {
	var index uint64
	var last []Service
	for ctx.Err() == nil {
		options := (&api.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx)
		names, meta, err := client.Catalog().Services(options)
		if err != nil {
			index = 0
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
			continue
		}
		index = meta.LastIndex
		var services []Service
		for name := range names {
			base, isProxy := strings.CutSuffix(name, proxySuffix)
			if name == "consul" || (isProxy && names[base] != nil) {
				continue
			}
			_, mesh := names[name+proxySuffix]
			services = append(services, Service{Name: name, Mesh: mesh})
		}
		slices.SortFunc(services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
		if !slices.Equal(services, last) {
			last = services
			changed(services)
		}
	}
}
