package proxy

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
)

// certificateUntil is a certificate that expires then, as PEM.
func certificateUntil(t *testing.T, at time.Time) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: at}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Of those that count together the earliest is told, and what is none is nothing.
func TestCertificates(t *testing.T) {
	t.Parallel()
	early, late := certificateUntil(t, time.Unix(2e9, 0)), certificateUntil(t, time.Unix(3e9, 0))
	cluster := func(leaf, roots string) upstream.ClusterStats {
		return upstream.ClusterStats{Definition: &mesh.Cluster{TLS: &mesh.UpstreamTLS{Leaf: mesh.Leaf{CertificatePEM: leaf}, Roots: mesh.Roots{PEM: roots}}}}
	}
	all := []upstream.ClusterStats{cluster(late, late), cluster(early, ""), cluster("", late+early), {Definition: &mesh.Cluster{}}, cluster("nonsense", "")}
	var certs certificates
	for _, row := range []struct {
		name  string
		those []int
		want  map[string]int64
	}{
		{"one", []int{0}, map[string]int64{leafExpires: 3e9, rootExpires: 3e9}},
		{"two", []int{0, 1}, map[string]int64{leafExpires: 2e9, rootExpires: 3e9}},
		{"the first of a bundle", []int{2}, map[string]int64{rootExpires: 3e9}},
		{"plain", []int{3}, map[string]int64{}},
		{"nonsense", []int{4}, map[string]int64{}},
	} {
		got := map[string]int64{}
		certs.ofClusters("cluster.a.", all, row.those, func(s stats.Stat) bool {
			got[s.Name] = s.Value
			return true
		})
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", row.name, diff)
		}
	}
}
