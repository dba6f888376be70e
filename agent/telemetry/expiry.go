package telemetry

import (
	"crypto/x509"
	"encoding/pem"
	"iter"

	"github.com/serai-net/serai/connect/mesh"
)

// Expiry shows when certificates expire, the earliest of those with the same
// name.
func Expiry(all iter.Seq[*x509.Certificate]) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		for name, expires := range earliest(all) {
			if !yield(Sample{
				Name: "serai_certificate_expiry_timestamp_seconds", Help: "When the certificate expires, in Unix time.", Kind: Gauge,
				Labels: []Label{{"name", name}}, Value: number(expires),
			}) {
				return
			}
		}
	}
}

// ExpiryLag shows how much later than what is served the certificate expires that
// the control plane has told of last: 0 if it is the same, more if we are behind.
func ExpiryLag(served, told iter.Seq[*x509.Certificate]) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		latest := earliest(told)
		for name, expires := range earliest(served) {
			next, ok := latest[name]
			if !ok {
				continue
			}
			if !yield(Sample{
				Name: "serai_certificate_expiry_lag_seconds", Help: "How much later the certificate that Consul has told of last expires than the one that is served.",
				Kind: Gauge, Labels: []Label{{"name", name}}, Value: number(next - expires),
			}) {
				return
			}
		}
	}
}

// earliest is when the first certificate of each name expires, in Unix time.
func earliest(all iter.Seq[*x509.Certificate]) map[string]int64 {
	first := map[string]int64{}
	for leaf := range all {
		name, expires := subject(leaf), leaf.NotAfter.Unix()
		if before, ok := first[name]; !ok || expires < before {
			first[name] = expires
		}
	}
	return first
}

// Leaves yields the leaf certificates that a snapshot of the mesh has for us,
// each once. What cannot be read is left out.
func Leaves(clusters map[string]*mesh.Cluster, listeners map[string]*mesh.Listener) iter.Seq[*x509.Certificate] {
	return func(yield func(*x509.Certificate) bool) {
		seen := map[string]bool{}
		for chain := range leafPEMs(clusters, listeners) {
			if chain == "" || seen[chain] {
				continue
			}
			seen[chain] = true
			block, _ := pem.Decode([]byte(chain))
			if block == nil {
				continue
			}
			if leaf, err := x509.ParseCertificate(block.Bytes); err == nil && !yield(leaf) {
				return
			}
		}
	}
}

// leafPEMs yields chains of certificates, the leaf first, most of them often.
func leafPEMs(clusters map[string]*mesh.Cluster, listeners map[string]*mesh.Listener) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, c := range clusters {
			if c.TLS != nil && !yield(c.TLS.Leaf.CertificatePEM) {
				return
			}
		}
		for _, l := range listeners {
			for _, chain := range append([]*mesh.FilterChain{l.Default}, l.Chains...) {
				if chain == nil || chain.TLS == nil {
					continue
				}
				for _, leaf := range chain.TLS.Leaves {
					if !yield(leaf.CertificatePEM) {
						return
					}
				}
			}
		}
	}
}

// subject is the first name that a certificate was made for.
func subject(leaf *x509.Certificate) string {
	switch {
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	default:
		return leaf.Subject.CommonName
	}
}
