package rbac

import "github.com/serai-net/serai/connect/mesh"

// Verdict says how one filter of a policy decides, and why.
type Verdict struct {
	// Action of the filter: ALLOW, DENY or LOG.
	Action string `json:"action"`
	// Allowed is the decision, By the name of the policy that made it; "" if it was
	// that none matched.
	Allowed bool   `json:"allowed"`
	By      string `json:"by,omitempty"`
	// Policies are all of the filter, in order.
	Policies []PolicyVerdict `json:"policies,omitempty"`
}

// PolicyVerdict says whether one policy matches, and if not, what of it does not.
type PolicyVerdict struct {
	Name    string `json:"name"`
	Matches bool   `json:"matches"`
	Why     string `json:"why,omitempty"`
}

// Explain decides as Decide does, by the same compiled policies, and tells of each
// filter that was asked: the first that denies is the last.
func (p *Policy) Explain(in Input) []Verdict {
	var all []Verdict
	for i := range p.filters {
		v := p.filters[i].explain(in)
		all = append(all, v)
		if !v.Allowed {
			break
		}
	}
	return all
}

func (f *filter) explain(in Input) Verdict {
	v := Verdict{Action: actionName(f.action)}
	v.Allowed, v.By = f.decide(in)
	for i := range f.policies {
		policy := &f.policies[i]
		said := PolicyVerdict{Name: policy.name, Matches: policy.matches(in, f.action)}
		switch {
		case said.Matches:
		case in.Request == nil && f.action == mesh.Allow && (policy.permissionsAskRequest || policy.principalsAskRequest):
			said.Why = "it asks about a request, and this is a connection"
		case !policy.principalsAskRequest && !policy.principals.holds(in) || in.Request != nil && !policy.principals.holds(in):
			said.Why = "the caller is none of its principals"
		default:
			said.Why = "what is asked for is none of its permissions"
		}
		v.Policies = append(v.Policies, said)
	}
	return v
}

func actionName(a mesh.Action) string {
	switch a {
	case mesh.Allow:
		return "ALLOW"
	case mesh.Deny:
		return "DENY"
	default:
		return "LOG"
	}
}
