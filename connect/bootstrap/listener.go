package bootstrap

import (
	"fmt"

	"github.com/serai-net/serai/connect/mesh"
)

// Kind is what a static listener serves.
type Kind uint8

// Kinds of static listener.
const (
	Unknown Kind = iota
	// Ready answers readiness.
	Ready
	// Prometheus serves metrics in Prometheus's format.
	Prometheus
	// Stats serves all of /stats.
	Stats
)

// Listener is a static listener that serves a part of the admin endpoint.
type Listener struct {
	Name    string
	Address mesh.Address
	Kind    Kind
	// Path is what it serves, "/metrics" for example; what is below it too for
	// [Stats].
	Path string
	// TLS says that the file asks for TLS here, with a certificate from files.
	TLS bool
}

type listener struct {
	Name         string  `json:"name"`
	Address      address `json:"address"`
	FilterChains []struct {
		TransportSocket *struct{} `json:"transport_socket"`
		Filters         []struct {
			TypedConfig struct {
				RouteConfig struct {
					VirtualHosts []struct {
						Routes []struct {
							Match struct {
								Path   string `json:"path"`
								Prefix string `json:"prefix"`
							} `json:"match"`
						} `json:"routes"`
					} `json:"virtual_hosts"`
				} `json:"route_config"`
			} `json:"typed_config"`
		} `json:"filters"`
	} `json:"filter_chains"`
}

func (l *listener) kind() Kind {
	switch l.Name {
	case "envoy_ready_listener":
		return Ready
	case "envoy_prometheus_metrics_listener":
		return Prometheus
	case "envoy_metrics_listener":
		return Stats
	}
	return Unknown
}

// path is the first one that the listener serves.
func (l *listener) path() string {
	for _, chain := range l.FilterChains {
		for _, filter := range chain.Filters {
			for _, host := range filter.TypedConfig.RouteConfig.VirtualHosts {
				for _, route := range host.Routes {
					return route.Match.Path + route.Match.Prefix // one of them is set
				}
			}
		}
	}
	return ""
}

func (d *document) listeners(config *Config) error {
	for i := range d.StaticResources.Listeners {
		l := &d.StaticResources.Listeners[i]
		kind := l.kind()
		if kind == Unknown {
			continue // told in Ignored
		}
		addr, err := l.Address.mesh()
		if err != nil {
			return fmt.Errorf("static listener %s: address: %w", l.Name, err)
		}
		out := Listener{Name: l.Name, Address: addr, Kind: kind, Path: l.path()}
		for _, chain := range l.FilterChains {
			out.TLS = out.TLS || chain.TransportSocket != nil
		}
		config.Listeners = append(config.Listeners, out)
	}
	return nil
}
