//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// names are two backends of the first upstream, each of which tells its name to whoever connects, by the mesh's TLS.
type names struct{ ports [2]int }

// serveNames starts both; they end with ctx.
func serveNames(ctx context.Context, first int, certificate *tls.Certificate) (*names, error) {
	n := &names{}
	config := &tls.Config{Certificates: []tls.Certificate{*certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	for i := range n.ports {
		n.ports[i] = first + i
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", local(first+i))
		if err != nil {
			return nil, fmt.Errorf("backend: %w", err)
		}
		context.AfterFunc(ctx, func() { listener.Close() })
		go serveName(listener, config, byte('A'+i))
	}
	return n, nil
}

func serveName(listener net.Listener, config *tls.Config, name byte) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				say("backend: %v", err)
			}
			return
		}
		go func() {
			defer conn.Close()
			secured := tls.Server(conn, config)
			if _, err := secured.Write([]byte{name}); err == nil {
				secured.CloseWrite() //nolint:errcheck // the client has what it wants
			}
		}()
	}
}
