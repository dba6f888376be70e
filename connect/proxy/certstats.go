package proxy

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
)

// What Envoy calls certificates that have no name in its configuration: ours have none.
const (
	leafExpires = "ssl.certificate.unnamed_cert_e3b0c442.expiration_unix_time_seconds"
	rootExpires = "ssl.certificate.unnamed_ca_cert_e3b0c442.expiration_unix_time_seconds"
)

// certificates tells when certificates expire, in Unix time, at one reading: most TLS
// contexts have the same ones. The zero value is ready for use.
type certificates struct {
	// known are times by PEM; 0 for what is none.
	known map[string]int64
	// leaf and root are the earliest of an owner; 0 for none.
	leaf, root int64
}

// expires is when the first certificate of a PEM does.
func (c *certificates) expires(text string) int64 {
	at, ok := c.known[text]
	if ok || text == "" {
		return at
	}
	if block, _ := pem.Decode([]byte(text)); block != nil {
		if first, err := x509.ParseCertificate(block.Bytes); err == nil {
			at = first.NotAfter.Unix()
		}
	}
	if c.known == nil {
		c.known = map[string]int64{}
	}
	c.known[text] = at
	return at
}

// note notes the certificates of a context.
func (c *certificates) note(leaf *mesh.Leaf, roots *mesh.Roots) {
	for _, one := range []struct {
		to *int64
		at int64
	}{{&c.leaf, c.expires(leaf.CertificatePEM)}, {&c.root, c.expires(roots.PEM)}} {
		if one.at != 0 && (*one.to == 0 || one.at < *one.to) {
			*one.to = one.at
		}
	}
}

// tell yields what was noted of an owner, and forgets it.
func (c *certificates) tell(owner string, yield func(stats.Stat) bool) bool {
	leaf, root := c.leaf, c.root
	c.leaf, c.root = 0, 0
	return (leaf == 0 || yield(stats.Stat{Owner: owner, Name: leafExpires, Kind: stats.KindGauge, Value: leaf})) &&
		(root == 0 || yield(stats.Stat{Owner: owner, Name: rootExpires, Kind: stats.KindGauge, Value: root}))
}

// ofClusters tells of those that count together.
func (c *certificates) ofClusters(owner string, all []upstream.ClusterStats, those []int, yield func(stats.Stat) bool) bool {
	for _, i := range those {
		if t := all[i].Definition.TLS; t != nil {
			c.note(&t.Leaf, &t.Roots)
		}
	}
	return c.tell(owner, yield)
}

// ofListeners tells of those that count together; what is gone is not in now, which may
// be nil.
func (c *certificates) ofListeners(owner string, now *mesh.Snapshot, those []*listen.Stats, yield func(stats.Stat) bool) bool {
	for _, l := range those {
		if now == nil || now.Listeners[l.Name] == nil {
			continue
		}
		chains, fallback := definitions(now.Listeners[l.Name])
		for _, d := range append(append([]*mesh.FilterChain(nil), chains...), fallback) {
			if d == nil || d.TLS == nil {
				continue
			}
			for i := range d.TLS.Leaves {
				c.note(&d.TLS.Leaves[i], &d.TLS.Roots)
			}
		}
	}
	return c.tell(owner, yield)
}
