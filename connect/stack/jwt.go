package stack

import (
	"fmt"
	"strconv"

	"github.com/serai-net/serai/connect/jwt"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// authenticate compiles a jwt_authn filter. Its rules match as those of a route
// table do.
func authenticate(config *mesh.JWT, place *Place) (wire.Layer, error) {
	all := &mesh.VirtualHost{Domains: []string{"*"}}
	for i := range config.Rules {
		all.Rules = append(all.Rules, &mesh.Rule{Name: strconv.Itoa(i), Match: config.Rules[i].Match, Direct: &mesh.DirectResponse{Status: 200}})
	}
	table, err := route.Compile(&mesh.Route{Name: "jwt_authn", VirtualHosts: []*mesh.VirtualHost{all}})
	if err != nil {
		return nil, err
	}
	index := map[*mesh.Rule]int{}
	for i, rule := range all.Rules {
		index[rule] = i
	}
	return jwt.Layer(config, jwt.Deps{
		Choose: func(x *wire.Exchange, req *wire.Request) int {
			rule := table.Match(x, req)
			if rule == nil {
				return -1
			}
			return index[rule.Rule]
		},
		Find: Find(place.clusters), Scope: place.scope, Log: place.log(), Pin: place.router.pin,
		Keep: place.keys,
	})
}

// keys are those of a source, as somebody has fetched them; who only explains has
// none fetched.
func (p *Place) keys(source mesh.RemoteKeys, build func() *jwt.Remote) *jwt.Remote {
	name := fmt.Sprintf("jwt/%+v", source)
	if p.still {
		return peek[jwt.Remote](p.Kept, name).Still()
	}
	return find(p.Kept, name, build)
}
