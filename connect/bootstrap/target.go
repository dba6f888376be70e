package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// TLS is how the control plane is verified.
type TLS struct {
	// RootsPEM are the CA certificates.
	RootsPEM string
	// ServerName is sent as SNI; it may be "".
	ServerName string
}

// Config verifies that the control plane's certificate was signed by one of the
// roots. Its name is not compared, as the file names none: an agent is reached
// by its address, and its certificate names its datacenter.
func (t *TLS) Config() (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(t.RootsPEM)) {
		return nil, errors.New("trusted_ca of the control plane: no certificate in it")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: t.ServerName,
		NextProtos: []string{"h2"},
		// The chain is verified below, which InsecureSkipVerify leaves to us.
		InsecureSkipVerify: true, //nolint:gosec // see VerifyConnection
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the control plane showed no certificate")
			}
			options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, c := range state.PeerCertificates[1:] {
				options.Intermediates.AddCert(c)
			}
			_, err := state.PeerCertificates[0].Verify(options)
			return err
		},
	}, nil
}

// Target is the address to dial for Server. Nomad writes a relative socket path
// that holds where the task's working directory is the allocation's root; for a
// raw_exec task it is looked up under NOMAD_ALLOC_DIR. getenv is os.Getenv or
// its like.
func (c *Config) Target(getenv func(string) string) mesh.Address {
	server := c.Server
	if server.Socket == "" || filepath.IsAbs(server.Socket) {
		return server
	}
	if _, err := os.Stat(server.Socket); err == nil {
		return server
	}
	if alloc := getenv("NOMAD_ALLOC_DIR"); alloc != "" {
		server.Socket = filepath.Join(alloc, strings.TrimPrefix(filepath.Clean(server.Socket), "alloc/"))
	}
	return server
}
