package integration_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

// webDNS answers at one address, where everybody who asks is web.
const webDNS = `
dns {
  listener "web" {
    address  = "127.0.0.1:8653"
    workload = "web"
  }
}
`

// testJobDNS runs the DNS interface as a task, and asks it as web would.
func testJobDNS(ctx context.Context, t *testing.T, w *jobWorld) {
	t.Helper()
	w.job(ctx, t, 0, append([]string{
		"run", "dns", "-var", "driver=exec", "-var", "port=8653", "-var", "config=" + webDNS,
	}, w.consul...)...)
	for name, want := range map[string]string{
		"api.mesh.":           "127.0.0.1", // where web's sidecar listens for it
		"web.service.consul.": "",          // wherever Nomad has put it
	} {
		must(t, harness.Until(ctx, "an answer for "+name, func(ctx context.Context) error {
			return w.dig(ctx, name, want)
		}))
	}
	if err := w.dig(ctx, "edge.mesh.", ""); err == nil {
		t.Error("web has no upstream edge, and got an address for it")
	}
}

// dig asks by TCP for an address; "" wants any.
func (w *jobWorld) dig(ctx context.Context, name, want string) error {
	conn, err := w.Namespace.DialContext(ctx, "tcp", "127.0.0.1:8653")
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, _, err := (&dns.Client{Net: "tcp"}).ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(name, dns.TypeA), &dns.Conn{Conn: conn})
	if err != nil {
		return fmt.Errorf("ask for %s: %w", name, err)
	}
	for _, record := range answer.Answer {
		if a, ok := record.(*dns.A); ok && (want == "" || a.A.String() == want) {
			return nil
		}
	}
	return fmt.Errorf("it says %s", answer)
}
