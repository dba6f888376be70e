package catalog

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/mesh"
)

// Places follows where the nodes of the catalog run: their locality, or else what
// their meta data "region" and "zone" say. xDS does not tell it without Consul
// Enterprise. Endpoints are known by the addresses of their nodes.
type Places struct {
	client *api.Client
	node   string
	own    mesh.Place
	sink   func(*mesh.Map)
	log    *slog.Logger

	nodes []*api.Node // owned by the loop
	last  mesh.Place
	known bool
}

// NewPlaces makes one that tells sink of every change. Our own place is own, or if
// that is unknown that of the node whose name is given, or if that is "" of the
// agent's.
func NewPlaces(client *api.Client, node string, own mesh.Place, sink func(*mesh.Map), log *slog.Logger) *Places {
	return &Places{client: client, node: node, own: own, sink: sink, log: log}
}

// Run follows until ctx ends. What was known last stays while Consul cannot be asked.
func (p *Places) Run(ctx context.Context) error {
	(&loop{question: p}).run(ctx)
	return ctx.Err()
}

func (p *Places) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	if p.node == "" && p.own == (mesh.Place{}) {
		name, err := p.client.Agent().NodeName()
		if err != nil {
			return nil, Explain(err, "agent:read, or say with -zone where we are")
		}
		p.node = name
	}
	nodes, meta, err := p.client.Catalog().Nodes(o)
	if err != nil {
		return nil, Explain(err, "node:read")
	}
	p.nodes = nodes
	return meta, nil
}

func (p *Places) answered(context.Context, bool) (held bool) {
	m := mapOf(p.nodes, p.node, p.own)
	p.nodes = nil
	if !p.known || m.Own != p.last {
		p.known, p.last = true, m.Own
		if m.Own == (mesh.Place{}) {
			p.log.Warn("the catalog does not tell in which zone we are: no endpoint is preferred", "node", p.node)
		} else {
			p.log.Info("endpoints of our own zone are preferred", "zone", m.Own.Zone, "region", m.Own.Region, "known", len(m.Places))
		}
	}
	p.sink(m)
	return false
}

func (p *Places) lost(err error) {
	p.log.Warn("the catalog does not tell where nodes are, what was known stays", "err", err)
}

func (p *Places) back() { p.log.Info("the catalog tells again where nodes are") }

// mapOf is where nodes are. An address that nodes of several places have says nothing.
func mapOf(nodes []*api.Node, name string, own mesh.Place) *mesh.Map {
	m := &mesh.Map{Own: own, Places: map[netip.Addr]mesh.Place{}}
	for _, node := range nodes {
		place := placeOf(node)
		if m.Own == (mesh.Place{}) && node.Node == name {
			m.Own = place
		}
		addresses := []string{node.Address}
		for _, address := range node.TaggedAddresses {
			addresses = append(addresses, address)
		}
		for _, text := range addresses {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			if before, ok := m.Places[addr.Unmap()]; ok && before != place {
				m.Places[addr.Unmap()] = mesh.Place{}
				continue
			}
			m.Places[addr.Unmap()] = place
		}
	}
	return m
}

func placeOf(node *api.Node) mesh.Place {
	if l := node.Locality; l != nil && (l.Region != "" || l.Zone != "") {
		return mesh.Place{Region: l.Region, Zone: l.Zone}
	}
	return mesh.Place{Region: node.Meta["region"], Zone: node.Meta["zone"]}
}
