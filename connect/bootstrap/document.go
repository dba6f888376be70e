package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// agentCluster is the static cluster of the control plane, unless ads_config
	// names another.
	agentCluster = "local_agent"
	tokenHeader  = "x-consul-token"
)

// document is the part of the file that is understood, names in snake_case.
type document struct {
	Node struct {
		ID       string         `json:"id"`
		Cluster  string         `json:"cluster"`
		Metadata map[string]any `json:"metadata"`
		Locality struct {
			Region  string `json:"region"`
			Zone    string `json:"zone"`
			SubZone string `json:"sub_zone"`
		} `json:"locality"`
	} `json:"node"`
	Admin           admin `json:"admin"`
	StaticResources struct {
		Clusters  []cluster         `json:"clusters"`
		Listeners []json.RawMessage `json:"listeners"`
		Secrets   []json.RawMessage `json:"secrets"`
	} `json:"static_resources"`
	DynamicResources struct {
		AdsConfig struct {
			GrpcServices services `json:"grpc_services"`
		} `json:"ads_config"`
	} `json:"dynamic_resources"`
	LayeredRuntime     layers          `json:"layered_runtime"`
	StatsSinks         []sink          `json:"stats_sinks"`
	StatsConfig        statsConfig     `json:"stats_config"`
	StatsFlushInterval string          `json:"stats_flush_interval"`
	Tracing            json.RawMessage `json:"tracing"`
}

// admin is the admin endpoint.
type admin struct {
	Address       *address   `json:"address"`
	AccessLogPath string     `json:"access_log_path"`
	AccessLog     accessLogs `json:"access_log"`
}

// services is a list that Consul writes as an object.
type services []service

type service struct {
	InitialMetadata []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"initial_metadata"`
	EnvoyGrpc struct {
		ClusterName string `json:"cluster_name"`
	} `json:"envoy_grpc"`
	GoogleGrpc json.RawMessage `json:"google_grpc"`
}

// UnmarshalJSON takes one service or a list of them.
func (s *services) UnmarshalJSON(data []byte) error {
	var list []service
	if json.Unmarshal(data, &list) == nil {
		*s = list
		return nil
	}
	var one service
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*s = services{one}
	return nil
}

type address struct {
	SocketAddress *struct {
		Address   string `json:"address"`
		PortValue uint16 `json:"port_value"`
	} `json:"socket_address"`
	Pipe *struct {
		Path string `json:"path"`
	} `json:"pipe"`
}

func (a *address) mesh() (mesh.Address, error) {
	switch {
	case a.Pipe != nil && a.Pipe.Path != "":
		return mesh.Address{Socket: a.Pipe.Path}, nil
	case a.SocketAddress != nil:
		ip, err := netip.ParseAddr(a.SocketAddress.Address)
		if err != nil {
			return mesh.Address{}, fmt.Errorf("%q is no IP address: write one in place of a name", a.SocketAddress.Address)
		}
		return mesh.Address{AddrPort: netip.AddrPortFrom(ip, a.SocketAddress.PortValue)}, nil
	default:
		return mesh.Address{}, errors.New("neither socket_address nor pipe")
	}
}

type cluster struct {
	Name           string `json:"name"`
	LoadAssignment struct {
		Endpoints []struct {
			LbEndpoints []struct {
				Endpoint struct {
					Address address `json:"address"`
				} `json:"endpoint"`
			} `json:"lb_endpoints"`
		} `json:"endpoints"`
	} `json:"load_assignment"`
	TransportSocket *struct {
		TypedConfig json.RawMessage `json:"typed_config"`
	} `json:"transport_socket"`
}

// server finds the control plane, what it is trusted by and the token.
func (d *document) server(config *Config) error {
	name := agentCluster
	for _, s := range d.DynamicResources.AdsConfig.GrpcServices {
		switch {
		case s.EnvoyGrpc.ClusterName != "":
			name = s.EnvoyGrpc.ClusterName
		case len(s.GoogleGrpc) > 0 && string(s.GoogleGrpc) != "null":
			return errors.New("ads_config.grpc_services: google_grpc is not supported: name a cluster by envoy_grpc")
		}
		for _, m := range s.InitialMetadata {
			if m.Key == tokenHeader {
				config.Token = m.Value
			}
		}
	}
	i := slices.IndexFunc(d.StaticResources.Clusters, func(c cluster) bool { return c.Name == name })
	if i < 0 {
		return fmt.Errorf("static_resources.clusters: no cluster %q, so the control plane's address is not known;"+
			" write the file with `consul connect envoy -bootstrap` or by Nomad", name)
	}
	c := d.StaticResources.Clusters[i]
	if len(c.LoadAssignment.Endpoints) == 0 || len(c.LoadAssignment.Endpoints[0].LbEndpoints) == 0 {
		return fmt.Errorf("cluster %q has no endpoint: it must have the address of the Consul agent's grpc port", name)
	}
	var err error
	if config.Server, err = c.LoadAssignment.Endpoints[0].LbEndpoints[0].Endpoint.Address.mesh(); err != nil {
		return fmt.Errorf("cluster %q: address: %w", name, err)
	}
	if more := len(c.LoadAssignment.Endpoints) + len(c.LoadAssignment.Endpoints[0].LbEndpoints); more > 2 {
		config.Ignored = append(config.Ignored, fmt.Sprintf("further endpoints of cluster %s: the first is connected to", name))
	}
	if c.TransportSocket == nil {
		return nil
	}
	if config.TLS, err = readTLS(c.TransportSocket.TypedConfig, config); err != nil {
		return fmt.Errorf("cluster %q: %w", name, err)
	}
	return nil
}
