package harness

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
)

// Namespace is a small machine of its own inside this one: PID, network and mount namespaces with one init. All that
// runs in it, its interfaces, its firewall rules and its mounts go when the init does. It needs Linux and root.
type Namespace struct {
	// Addr is the address of its interface eth0, by which the default route goes. Nothing beyond it is reachable.
	Addr netip.Addr

	// set by Env.Namespace
	init    *Process
	handles map[string]*os.File // of its namespaces by kind: net, mnt, pid
}

// Client is an HTTP client whose connections start in the namespace. Addresses must be numeric.
func (n *Namespace) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}}
}

// DialContext connects from within the namespace. The address must be numeric: a name would be looked up outside.
func (n *Namespace) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.dial(ctx, network, addr)
}

// Listen listens in the namespace. The address must be numeric.
func (n *Namespace) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return n.listen(ctx, network, addr)
}
