package catalog

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Config says how to reach the Consul agent. The zero Config is an agent at
// 127.0.0.1:8500 without ACLs. What is not given falls back to Consul's own
// environment variables (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, ...), which
// Consul's client library reads.
//
//	consul {
//	  address = "127.0.0.1:8500"
//	  token   = env("CONSUL_HTTP_TOKEN")
//	}
type Config struct {
	// Address of the HTTP API: "host:port", "http://host:port",
	// "https://host:port" or "unix:///path".
	Address string `hcl:"address,optional"`
	// SSL asks for HTTPS where Address does not say.
	SSL bool `hcl:"ssl,optional"`
	// Token is the ACL token. TokenFile has it instead.
	Token     string `hcl:"token,optional"`
	TokenFile string `hcl:"token_file,optional,path"`
	// CAFile verifies the agent's certificate; CertFile and KeyFile are ours,
	// if the agent wants one. PEM.
	CAFile   string `hcl:"ca_file,optional,path"`
	CertFile string `hcl:"cert_file,optional,path"`
	KeyFile  string `hcl:"key_file,optional,path"`
	// ServerName is expected in the agent's certificate; "" means the address.
	ServerName string `hcl:"tls_server_name,optional"`
	// Datacenter of queries; "" means the agent's own.
	Datacenter string `hcl:"datacenter,optional"`
	// Namespace is for Consul Enterprise.
	Namespace string `hcl:"namespace,optional"`
	// GRPCAddress is the agent's gRPC port, for xDS: "host:port",
	// "https://host:port" or "unix:///path"; "" means the one that the agent
	// says it has.
	GRPCAddress string `hcl:"grpc_address,optional"`
	// GRPCCAFile verifies the gRPC port's certificate; "" means CAFile.
	GRPCCAFile string `hcl:"grpc_ca_file,optional,path"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells all that is wrong, with the block's position in front.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		text := "consul: " + fmt.Sprintf(format, args...)
		if c.Pos != "" {
			text = c.Pos + ": " + text
		}
		errs = append(errs, errors.New(text))
	}
	if err := checkAddress(c.Address); err != nil {
		fail("address is %q, %v; write \"127.0.0.1:8500\", \"https://consul.example.com:8501\" or \"unix:///run/consul.sock\"", c.Address, err)
	}
	if err := checkAddress(c.GRPCAddress); err != nil {
		fail("grpc_address is %q, %v; write \"127.0.0.1:8502\" or \"unix:///run/consul_grpc.sock\"", c.GRPCAddress, err)
	}
	if c.Token != "" && c.TokenFile != "" {
		fail("both token and token_file are given; keep one")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		fail("cert_file and key_file go together; give both")
	}
	return errors.Join(errs...)
}

func checkAddress(address string) error {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		scheme, rest = "", address
	}
	switch scheme {
	case "unix":
		if rest == "" {
			return errors.New("which names no socket")
		}
		return nil
	case "", "http", "https":
		if rest == "" && scheme == "" {
			return nil
		}
		host, _, _ := strings.Cut(rest, "/")
		_, port, err := net.SplitHostPort(host)
		if err != nil {
			return errors.New("which has no port")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("where %q is no port", port)
		}
		return nil
	default:
		return fmt.Errorf("and scheme %q is not known", scheme)
	}
}
