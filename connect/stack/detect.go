package stack

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// detect finds out who the client is: the first way that knows counts. An error is why
// the request is rejected.
func detect(ways []mesh.Detection, x *wire.Exchange, h *wire.Header) error {
	for i := range ways {
		d := &ways[i]
		var found netip.AddrPort
		tell := d.Append
		switch {
		case d.Header != "":
			found = addressOf(h.Get(d.Header))
			if !found.IsValid() && d.Reject != 0 {
				return &wire.Fault{Status: d.Reject, Flag: wire.FlagDenied, Details: "rejecting_because_detection_failed"}
			}
		case d.Trusted != nil:
			if trusts(d.Trusted, x.Peer.Addr) {
				found = lastUntrusted(d.Trusted, h.Joined(forwardedForField))
			} else {
				tell = true // whoever comes next should know
			}
		case h.Has(forwardedForField):
			found = lastButOne(h.Joined(forwardedForField), d.Hops)
		}
		if host := x.Peer.Host(); tell && host != "" {
			appendTo(h, forwardedForField, host, ",")
		}
		if found.IsValid() {
			x.Remote = found
			break
		}
	}
	return nil
}

func trusts(trusted []netip.Prefix, a netip.AddrPort) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a.Addr().Unmap()) })
}

// lastUntrusted is the last address in a list that is none of a trusted proxy, the first
// if they all are; invalid if there is what is no address before.
func lastUntrusted(trusted []netip.Prefix, list string) (found netip.AddrPort) {
	for list != "" {
		i := strings.LastIndexByte(list, ',')
		next := addressOf(list[i+1:])
		if !next.IsValid() {
			return netip.AddrPort{}
		}
		if found = next; !trusts(trusted, next) {
			break
		}
		list = list[:max(i, 0)]
	}
	return found
}
