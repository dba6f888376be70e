package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
)

// ADS says where and as whom to open the xDS stream for a proxy: at the gRPC
// port of the agent, with the token of the HTTP API.
func ADS(ctx context.Context, client *catalog.Client, consul catalog.Config, proxy catalog.Proxy) (ads.Config, error) {
	grpc, err := catalog.XDSAddress(ctx, client, consul)
	if err != nil {
		return ads.Config{}, err
	}
	return ADSAt(ctx, grpc, consul, proxy)
}

// ADSAt is ADS where it is known where xDS is served.
func ADSAt(ctx context.Context, grpc catalog.GRPC, consul catalog.Config, proxy catalog.Proxy) (ads.Config, error) {
	config := ads.Config{Node: ads.Node{ID: proxy.ID, Cluster: proxy.Service}}
	var err error
	if config.Target, err = target(ctx, grpc.Address); err != nil {
		return config, err
	}
	if config.Token, err = token(consul); err != nil {
		return config, err
	}
	if grpc.TLS {
		config.TLS, err = grpcTLS(consul)
	}
	return config, err
}

func target(ctx context.Context, address string) (mesh.Address, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return mesh.Address{Socket: path}, nil
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return mesh.Address{}, fmt.Errorf("gRPC address %q: write it as host:port or unix:///path: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return mesh.Address{}, fmt.Errorf("gRPC address %q: the port is no number from 1 to 65535", address)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return mesh.Address{}, fmt.Errorf("gRPC address %q: %w", address, err)
	}
	best := addrs[0]
	for _, addr := range addrs {
		if addr.Unmap().Is4() { // Consul's default bind address
			best = addr
			break
		}
	}
	return mesh.Address{AddrPort: netip.AddrPortFrom(best.Unmap(), uint16(port))}, nil
}

func token(consul catalog.Config) (string, error) {
	if consul.Token != "" || consul.TokenFile == "" {
		return consul.Token, nil
	}
	text, err := os.ReadFile(consul.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// errNoCA: a gRPC port with TLS needs to be verified.
var errNoCA = errors.New("the agent's gRPC port wants TLS: give the CA that signed its certificate with -grpc-ca-file " +
	"(CONSUL_GRPC_CACERT), or set `ports { grpc = 8502 }` on the agent for plain gRPC on this machine")

func grpcTLS(consul catalog.Config) (*tls.Config, error) {
	file := consul.GRPCCAFile
	if file == "" {
		file = consul.CAFile
	}
	if file == "" {
		return nil, errNoCA
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CA of the gRPC port: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA of the gRPC port: %s holds no PEM certificate", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: consul.ServerName}, nil
}
