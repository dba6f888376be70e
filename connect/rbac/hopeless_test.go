package rbac_test

import (
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/wire"
)

// TestHopeless: a connection is given up only if nothing that its peer could ask for
// would be allowed.
func TestHopeless(t *testing.T) {
	t.Parallel()
	all, web := mesh.Permission{Any: true}, service("web")
	admin := mesh.Permission{Path: &mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/admin"}}
	forwarded := mesh.Principal{Header: &mesh.HeaderMatch{Name: "x-forwarded-client-cert", Value: *regex(".*")}}
	for name, tt := range map[string]struct {
		intentions []*mesh.Intention
		want       bool
	}{
		"no filter":                       {nil, false},
		"nothing allowed":                 {[]*mesh.Intention{allow()}, true},
		"nothing denied":                  {[]*mesh.Intention{deny()}, false},
		"refused":                         {[]*mesh.Intention{{Action: mesh.Deny, Refusal: "x"}}, true},
		"nothing enforced":                {[]*mesh.Intention{{Unenforced: true}}, false},
		"allowed":                         {[]*mesh.Intention{allow(policy("p", all, web))}, false},
		"allowed a path":                  {[]*mesh.Intention{allow(policy("p", admin, web))}, false},
		"allowed all but a path":          {[]*mesh.Intention{allow(policy("p", mesh.Permission{Not: &admin}, web))}, false},
		"another allowed":                 {[]*mesh.Intention{allow(policy("p", all, service("db")))}, true},
		"all others allowed":              {[]*mesh.Intention{allow(policy("p", all, mesh.Principal{Not: &web}))}, true},
		"who says that it is somebody":    {[]*mesh.Intention{allow(policy("p", all, forwarded))}, false},
		"and one of us":                   {[]*mesh.Intention{allow(policy("p", all, mesh.Principal{And: []mesh.Principal{forwarded, service("db")}}))}, true},
		"denied":                          {[]*mesh.Intention{deny(policy("p", all, web))}, true},
		"denied a path":                   {[]*mesh.Intention{deny(policy("p", admin, web))}, false},
		"denied if it says so":            {[]*mesh.Intention{deny(policy("p", all, forwarded))}, false},
		"denied with all who are not db":  {[]*mesh.Intention{deny(policy("p", all, mesh.Principal{Not: new(service("db"))}))}, true},
		"denied by the second of filters": {[]*mesh.Intention{allow(policy("p", all, web)), deny(policy("q", all, mesh.Principal{Or: []mesh.Principal{service("db"), web}}))}, true},
	} {
		p, err := rbac.Compile(tt.intentions)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Hopeless(rbac.Input{Peer: &wire.Peer{ID: id(t, "web")}}); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
