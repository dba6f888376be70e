package telemetry_test

import (
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/agent/telemetry"
)

// The lag is told for what is served, by name, of the certificates that end first.
func TestExpiryLag(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	until := func(name string, in time.Duration) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: now.Add(in)}
	}
	served := slices.Values([]*x509.Certificate{until("web", time.Hour), until("web", 3*time.Hour), until("same", time.Hour), until("gone", time.Hour)})
	told := slices.Values([]*x509.Certificate{until("web", 3*time.Hour), until("same", time.Hour), until("new", time.Hour)})
	got := map[string]float64{}
	for s := range telemetry.ExpiryLag(served, told) {
		got[s.Labels[0].Value] = s.Value
	}
	if diff := cmp.Diff(map[string]float64{"web": 7200, "same": 0}, got); diff != "" {
		t.Error(diff)
	}
}
