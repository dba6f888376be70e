package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
)

// TLS is how the control plane is verified.
type TLS struct {
	// RootsPEM are the CA certificates.
	RootsPEM string
	// ServerName is sent as SNI; it may be "".
	ServerName string
	// Names are those of which the control plane's certificate must have one; none means
	// that no name is asked for.
	Names []Name
}

// Name is a subject alternative name.
type Name struct {
	// Type is "DNS", "URI" or "IP_ADDRESS".
	Type, Exact string
}

// of tells whether a certificate has the name.
func (n Name) of(c *x509.Certificate) bool {
	switch n.Type {
	case "DNS":
		return c.VerifyHostname(n.Exact) == nil
	case "IP_ADDRESS":
		return slices.ContainsFunc(c.IPAddresses, net.ParseIP(n.Exact).Equal)
	default:
		for _, uri := range c.URIs {
			if uri.String() == n.Exact {
				return true
			}
		}
		return false
	}
}

// Config verifies that the control plane's certificate was signed by one of the
// roots. Its name is not compared unless the file gives some: an agent is reached
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
			leaf := state.PeerCertificates[0]
			if _, err := leaf.Verify(options); err != nil {
				return err
			}
			if len(t.Names) > 0 && !slices.ContainsFunc(t.Names, func(n Name) bool { return n.of(leaf) }) {
				return errors.New("the control plane's certificate has none of the names in match_typed_subject_alt_names")
			}
			return nil
		},
	}, nil
}

// tlsContext is the TLS of the control plane's cluster, as far as it is understood.
type tlsContext struct {
	Type             string          `json:"@type"`
	SNI              string          `json:"sni"`
	CommonTLSContext json.RawMessage `json:"common_tls_context"`
}

type commonContext struct {
	ValidationContext json.RawMessage `json:"validation_context"`
	ALPN              json.RawMessage `json:"alpn_protocols"` // it is h2
}

type validationContext struct {
	TrustedCA struct {
		InlineString string `json:"inline_string"`
		Filename     string `json:"filename"`
	} `json:"trusted_ca"`
	Names []struct {
		Type    string `json:"san_type"`
		Matcher struct {
			Exact string `json:"exact"`
		} `json:"matcher"`
	} `json:"match_typed_subject_alt_names"`
	// The chain is always verified, and the file is read once.
	Verification     json.RawMessage `json:"trust_chain_verification"`
	WatchedDirectory json.RawMessage `json:"watched_directory"`
}

// readTLS reads by what the control plane is verified. What would have it verified more
// strictly and is not understood is an error.
func readTLS(data json.RawMessage, config *Config) (*TLS, error) {
	var context tlsContext
	if err := unmarshal(data, &context); err != nil {
		return nil, err
	}
	var common commonContext
	if err := unmarshal(context.CommonTLSContext, &common); err != nil {
		return nil, fmt.Errorf("common_tls_context: %w", err)
	}
	for _, name := range append(besides(data, context), besides(context.CommonTLSContext, common)...) {
		if name == "auto_host_sni" || name == "auto_sni_san_validation" {
			return nil, fmt.Errorf("%s is not supported: give the name as sni and in match_typed_subject_alt_names", name)
		}
		config.Ignored = append(config.Ignored, "TLS to the control plane: "+name)
	}
	var validation validationContext
	if err := unmarshal(common.ValidationContext, &validation); err != nil {
		return nil, fmt.Errorf("validation_context: %w", err)
	}
	for _, name := range besides(common.ValidationContext, validation) {
		return nil, fmt.Errorf("validation_context.%s is not supported, and without it the Consul agent would be verified less than it asks:"+
			" leave it out, or ask for names in match_typed_subject_alt_names", name)
	}
	out := &TLS{RootsPEM: validation.TrustedCA.InlineString, ServerName: context.SNI}
	if file := validation.TrustedCA.Filename; out.RootsPEM == "" && file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("trusted_ca: %w", err)
		}
		out.RootsPEM = string(pem)
	}
	if out.RootsPEM == "" {
		return nil, errors.New("trusted_ca has neither inline_string nor filename, so the Consul agent could not be verified")
	}
	for _, n := range validation.Names {
		name := Name{n.Type, n.Matcher.Exact}
		if name.Exact == "" || !slices.Contains([]string{"DNS", "URI", "IP_ADDRESS"}, name.Type) {
			return nil, errors.New("match_typed_subject_alt_names: only exact names of type DNS, URI or IP_ADDRESS are supported")
		}
		out.Names = append(out.Names, name)
	}
	return out, nil
}

func unmarshal(data json.RawMessage, into any) error {
	if len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, into)
}
