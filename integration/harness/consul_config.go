package harness

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
)

// Places of an agent's ports in its range; the last two are the first of several.
const (
	portHTTP = iota
	portGRPC
	portDNS
	portServer
	portSerf
	portSidecars
	portExpose  = portSidecars + sidecars
	consulPorts = portExpose + sidecars
)

// consulFile is an agent's configuration. Every section is there for a reason:
// a test should not wait for what a cluster of several needs, and must not be slowed by limits for foreign clients.
func consulFile(config ConsulConfig, first int, data, token string) string {
	file := map[string]any{
		"node_name":            config.Name,
		"data_dir":             data,
		"server":               true,
		"bootstrap_expect":     1,
		"bind_addr":            "127.0.0.1",
		"client_addr":          "127.0.0.1",
		"log_level":            "info",
		"disable_host_node_id": true, // several agents on one host

		"disable_update_check":    true,
		"disable_remote_exec":     true,
		"leave_on_terminate":      false, // a stop is an outage, not a farewell
		"skip_leave_on_interrupt": true,
		"performance":             map[string]any{"raft_multiplier": 1},
		"rpc":                     map[string]any{"enable_streaming": true},
		"limits":                  map[string]any{"http_max_conns_per_client": 4096},
		"connect":                 map[string]any{"enabled": true},
		"ui_config":               map[string]any{"enabled": false},
		"ports": map[string]any{
			"http": first + portHTTP, "grpc": config.GRPCPort, "dns": first + portDNS,
			"server": first + portServer, "serf_lan": first + portSerf,
			"https": -1, "grpc_tls": -1, "serf_wan": -1,
			"sidecar_min_port": first + portSidecars, "sidecar_max_port": first + portExpose - 1,
			"expose_min_port": first + portExpose, "expose_max_port": first + consulPorts - 1,
		},
	}
	if config.DualStack {
		file["bind_addr"], file["client_addr"] = "::1", "127.0.0.1 ::1"
	}
	if token != "" {
		file["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny", "enable_token_persistence": true,
			"tokens": map[string]any{"initial_management": token, "agent": token},
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return string(text)
}

// newToken makes a random UUID, the form of Consul's tokens.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
