package catalog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/mesh"
)

// addressOf is where an instance is: its own address, or its node's. Names are
// looked up.
func addressOf(ctx context.Context, entry *api.ServiceEntry) (mesh.Address, error) {
	s := entry.Service
	if s.SocketPath != "" {
		return mesh.Address{Socket: s.SocketPath}, nil
	}
	if s.Port <= 0 || s.Port > 65535 {
		return mesh.Address{}, errors.New("it has no port")
	}
	host := s.Address
	if host == "" && entry.Node != nil {
		host = entry.Node.Address
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return mesh.Address{}, fmt.Errorf("look up its address: %w", err)
		}
		addr = found[0]
	}
	return mesh.Address{AddrPort: netip.AddrPortFrom(addr.Unmap(), uint16(s.Port))}, nil
}

// anyAccepts tells whether one of the endpoints takes a connection. At most
// eight are tried, all at once.
func anyAccepts(ctx context.Context, endpoints []mesh.Endpoint) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	endpoints = endpoints[:min(len(endpoints), 8)]
	results := make(chan bool, len(endpoints))
	for i := range endpoints {
		address := endpoints[i].Address
		go func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, address.Network(), address.String())
			if err == nil {
				err = conn.Close()
			}
			results <- err == nil
		}()
	}
	accepted := false
	for range endpoints {
		accepted = <-results || accepted
	}
	return accepted
}
