package proxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/xds/resource"
)

// leafOf shakes hands and tells whose certificate was shown, when the application has spoken.
func leafOf(t *testing.T, address string) (string, error) {
	t.Helper()
	conn, err := shake(t, address, "", nil)
	if err != nil {
		return "", err
	}
	var name [1]byte
	if _, err := io.ReadFull(conn, name[:]); err != nil {
		return "", err
	}
	return answering(conn), nil
}

// A certificate that does not fit its key breaks no chain: the last one is shown on,
// all else is as it is said, and it is told. What changes whom we believe is no such
// case, and refuses the chain.
func TestBrokenCertificateLeavesTheLast(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a"), "b": says(t, "b")})
	address := freeAddress(t)
	chain, key := issue(t, "first", nil).pem(t)
	other, _ := issue(t, "other", nil).pem(t)
	push := func(cluster, chain, more string) {
		t.Helper()
		d.push(t, resource.ListenerType, nil, listener("l", address, "", secured(tcpChain("", cluster), chain, key, more, "")))
	}
	refusals := func() string { return fmt.Sprint(d.proxy.Status().Refusals) }
	push("a", chain, "")
	if got, err := leafOf(t, address); got != "first" || err != nil {
		t.Fatalf("certificate %q, %v", got, err)
	}
	push("b", other, "")
	if got, err := leafOf(t, address); got != "first" || err != nil {
		t.Errorf("certificate %q, %v", got, err)
	}
	conn, err := shake(t, address, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, conn, "x", "bx") // all else is new
	if got := refusals(); !strings.Contains(got, "the last certificate stays, since the new one cannot be used: our certificate:") {
		t.Errorf("not told: %s", got)
	}
	told := func() int { return strings.Count(d.log.String(), "a new certificate is not taken") }
	before := told()
	push("a", other, "") // still
	if got := refusals(); !strings.Contains(got, "stays") || told() != before {
		t.Errorf("told %d times more, %s", told()-before, got)
	}
	push("b", other, `,"tls_params":{"tls_minimum_protocol_version":"TLSv1_3"}`)
	if got, err := leafOf(t, address); err == nil {
		t.Errorf("certificate %q, though what is asked for has changed", got)
	}
	if got := refusals(); !strings.Contains(got, "our certificate:") || strings.Contains(got, "stays") {
		t.Errorf("not told: %s", got)
	}
	push("a", chain, "")
	if got, err := leafOf(t, address); got != "first" || err != nil || refusals() != "[]" {
		t.Errorf("certificate %q, %v, %s", got, err, refusals())
	}
}
