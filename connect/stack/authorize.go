package stack

import (
	"net/http"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// rbacNamespace is where the decisions of shadow rules are told.
	rbacNamespace = "envoy.filters.http.rbac"
	// commonNamespace is where the action LOG gives its hint.
	commonNamespace = "envoy.common"
)

// authorizer is an RBAC filter of HTTP.
type authorizer struct {
	next            wire.Service
	policy          *rbac.Policy
	logs            bool           // its action is LOG
	allowed, denied *stats.Counter // nil if it enforces nothing
	shadow          *shadow        // nil if there is none
}

// authorize lets through what an intention allows, with Envoy's answer to what it
// denies.
func authorize(in *mesh.Intention, scope *stats.Scope) (wire.Layer, error) {
	policy, err := rbac.Compile([]*mesh.Intention{in})
	if err != nil {
		return nil, err
	}
	a := authorizer{policy: policy, logs: in.Action == mesh.Log && in.Refusal == ""}
	if !in.Unenforced {
		within := scope.Scope(dotted(in.StatPrefix))
		a.allowed, a.denied = within.Counter("allowed"), within.Counter("denied")
	}
	if in.Shadow != nil {
		if a.shadow, err = newShadow(in.Shadow, scope); err != nil {
			return nil, err
		}
	}
	return func(next wire.Service) wire.Service {
		bound := a
		bound.next = next
		return &bound
	}, nil
}

// dotted ends a prefix of names with a dot, if there is any.
func dotted(prefix string) string {
	if prefix == "" || prefix[len(prefix)-1] == '.' {
		return prefix
	}
	return prefix + "."
}

// Serve implements [wire.Service].
func (a *authorizer) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	input := rbac.Input{Peer: x.Peer, Remote: x.Remote, Request: req, Metadata: &x.Metadata}
	if a.shadow != nil {
		a.shadow.look(x, input)
	}
	allowed, name := a.policy.Decide(input)
	if a.logs {
		x.Metadata.Set(commonNamespace, "access_log_hint", name != "")
	}
	if !allowed {
		a.denied.Add(1)
		return nil, &wire.Fault{
			Status: http.StatusForbidden, Flag: wire.FlagDenied, Text: "RBAC: access denied", Details: deniedBy(name),
		}
	}
	if a.allowed != nil {
		a.allowed.Add(1)
	}
	return a.next.Serve(x, req)
}

// shadow decides without a consequence, and tells who counts and who logs.
type shadow struct {
	policy          *rbac.Policy
	allowed, denied *stats.Counter
	result, by      string // keys of metadata
}

func newShadow(in *mesh.Intention, scope *stats.Scope) (*shadow, error) {
	policy, err := rbac.Compile([]*mesh.Intention{in})
	if err != nil {
		return nil, err
	}
	within := scope.Scope(dotted(in.StatPrefix))
	return &shadow{
		policy: policy, allowed: within.Counter("shadow_allowed"), denied: within.Counter("shadow_denied"),
		result: in.StatPrefix + "shadow_engine_result", by: in.StatPrefix + "shadow_effective_policy_id",
	}, nil
}

func (s *shadow) look(x *wire.Exchange, input rbac.Input) {
	allowed, name := s.policy.Decide(input)
	result := "denied"
	if allowed {
		result = "allowed"
		s.allowed.Add(1)
	} else {
		s.denied.Add(1)
	}
	x.Metadata.Set(rbacNamespace, s.result, result)
	if name != "" {
		x.Metadata.Set(rbacNamespace, s.by, name)
	}
}
