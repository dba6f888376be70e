package resource

import (
	"fmt"
	"maps"
	"slices"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
)

// Intention reads an RBAC filter, of HTTP or of the network. What is not
// understood becomes a Refusal, which denies all.
func Intention(filter *anypb.Any) *mesh.Intention {
	d := &decoder{}
	if typeOf(filter) == netRBACType {
		msg := &netrbacv3.RBAC{}
		if err := unpack(filter, msg); err != nil {
			return &mesh.Intention{Refusal: reason(err)}
		}
		return d.networkRBAC(msg)
	}
	msg := &httprbacv3.RBAC{}
	if err := unpack(filter, msg); err != nil {
		return &mesh.Intention{Refusal: reason(err)}
	}
	return d.httpRBAC(msg)
}

func (d *decoder) networkRBAC(msg *netrbacv3.RBAC) *mesh.Intention {
	// What a connection is decided by does not change while it lives, and when rules do all
	// are decided on anew: it is all the same how often else that happens.
	err := d.only(msg, "rules stat_prefix shadow_rules shadow_rules_stat_prefix enforcement_type delay_deny", "")
	in := d.intention(msg.GetRules(), msg.GetShadowRules(), msg.GetStatPrefix(), msg.GetShadowRulesStatPrefix(), err)
	in.DelayDeny = duration(msg.GetDelayDeny(), 0)
	return in
}

func (d *decoder) httpRBAC(msg *httprbacv3.RBAC) *mesh.Intention {
	err := d.only(msg, "rules shadow_rules rules_stat_prefix shadow_rules_stat_prefix", "track_per_rule_stats")
	return d.intention(msg.GetRules(), msg.GetShadowRules(), msg.GetRulesStatPrefix(), msg.GetShadowRulesStatPrefix(), err)
}

// intention reads rules. One policy that is not understood refuses them all: a
// DENY cannot be skipped, and what an ALLOW would have let in is not known.
// Shadow rules that are not understood are only noted, since nothing hangs on
// them.
func (d *decoder) intention(rules, shadow *rbacv3.RBAC, prefix, shadowPrefix string, err error) *mesh.Intention {
	in := &mesh.Intention{StatPrefix: prefix, Unenforced: rules == nil && shadow != nil}
	if err == nil && !in.Unenforced {
		err = d.rules(rules, in)
	}
	if err != nil {
		return &mesh.Intention{Refusal: "rbac: " + err.Error()}
	}
	if shadow != nil {
		in.Shadow = &mesh.Intention{StatPrefix: shadowPrefix}
		if err := d.rules(shadow, in.Shadow); err != nil {
			d.note("shadow rules of an RBAC filter are ignored: %v", err)
			in.Shadow = nil
		}
	}
	return in
}

func (d *decoder) rules(rules *rbacv3.RBAC, in *mesh.Intention) error {
	if rules == nil {
		// Envoy enforces nothing then. Consul always sends rules, if empty ones.
		return fmt.Errorf("no rules")
	}
	if err := d.only(rules, "action policies", "audit_logging_options"); err != nil {
		return err
	}
	switch rules.GetAction() {
	case rbacv3.RBAC_ALLOW:
		in.Action = mesh.Allow
	case rbacv3.RBAC_DENY:
		in.Action = mesh.Deny
	case rbacv3.RBAC_LOG:
		in.Action = mesh.Log
	default:
		return fmt.Errorf("action %s is not supported", rules.GetAction())
	}
	// In the order of their names, as Envoy goes through them.
	for _, name := range slices.Sorted(maps.Keys(rules.GetPolicies())) {
		policy, err := d.policy(name, rules.GetPolicies()[name])
		if err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
		in.Policies = append(in.Policies, policy)
	}
	return nil
}

func (d *decoder) policy(name string, msg *rbacv3.Policy) (mesh.IntentionPolicy, error) {
	p := mesh.IntentionPolicy{Name: name}
	if err := d.only(msg, "permissions principals", ""); err != nil {
		return p, err
	}
	var err error
	if p.Permissions, err = d.permissions(msg.GetPermissions()); err != nil {
		return p, err
	}
	p.Principals, err = d.principals(msg.GetPrincipals())
	return p, err
}

func (d *decoder) permissions(msgs []*rbacv3.Permission) ([]mesh.Permission, error) {
	if len(msgs) == 0 {
		return nil, fmt.Errorf("empty list of permissions")
	}
	var out []mesh.Permission
	for _, msg := range msgs {
		p, err := d.permission(msg)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (d *decoder) permission(msg *rbacv3.Permission) (p mesh.Permission, err error) {
	switch rule := msg.GetRule().(type) {
	case *rbacv3.Permission_Any:
		if p.Any = rule.Any; !p.Any {
			err = fmt.Errorf("permission any: false")
		}
	case *rbacv3.Permission_AndRules:
		p.And, err = d.permissions(rule.AndRules.GetRules())
	case *rbacv3.Permission_OrRules:
		p.Or, err = d.permissions(rule.OrRules.GetRules())
	case *rbacv3.Permission_NotRule:
		var not mesh.Permission
		not, err = d.permission(rule.NotRule)
		p.Not = &not
	case *rbacv3.Permission_UrlPath:
		var m mesh.StringMatch
		m, err = stringMatch(rule.UrlPath.GetPath())
		p.Path = &m
	case *rbacv3.Permission_Header:
		var m mesh.HeaderMatch
		m, err = headerMatch(rule.Header)
		p.Header = &m
	case *rbacv3.Permission_Metadata:
		p.Metadata, err = d.metadata(rule.Metadata)
	case *rbacv3.Permission_SourcedMetadata:
		p.Metadata, err = d.sourced(rule.SourcedMetadata)
	default:
		err = d.connectionPermission(msg, &p)
	}
	return p, err
}

func (d *decoder) principals(msgs []*rbacv3.Principal) ([]mesh.Principal, error) {
	if len(msgs) == 0 {
		return nil, fmt.Errorf("empty list of principals")
	}
	var out []mesh.Principal
	for _, msg := range msgs {
		p, err := d.principal(msg)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (d *decoder) principal(msg *rbacv3.Principal) (p mesh.Principal, err error) {
	switch id := msg.GetIdentifier().(type) {
	case *rbacv3.Principal_Any:
		if p.Any = id.Any; !p.Any {
			err = fmt.Errorf("principal any: false")
		}
	case *rbacv3.Principal_AndIds:
		p.And, err = d.principals(id.AndIds.GetIds())
	case *rbacv3.Principal_OrIds:
		p.Or, err = d.principals(id.OrIds.GetIds())
	case *rbacv3.Principal_NotId:
		var not mesh.Principal
		not, err = d.principal(id.NotId)
		p.Not = &not
	case *rbacv3.Principal_Authenticated_:
		if id.Authenticated.GetPrincipalName() == nil {
			p.Authenticated = true
			break
		}
		var m mesh.StringMatch
		m, err = stringMatch(id.Authenticated.GetPrincipalName())
		p.Name = &m
	case *rbacv3.Principal_Header:
		var m mesh.HeaderMatch
		m, err = headerMatch(id.Header)
		p.Header = &m
	case *rbacv3.Principal_Metadata:
		p.Metadata, err = d.metadata(id.Metadata)
	case *rbacv3.Principal_SourcedMetadata:
		p.Metadata, err = d.sourced(id.SourcedMetadata)
	case *rbacv3.Principal_UrlPath:
		var m mesh.StringMatch
		m, err = stringMatch(id.UrlPath.GetPath())
		p.Path = &m
	case *rbacv3.Principal_SourceIp:
		p.Source, err = prefixOf(id.SourceIp)
	case *rbacv3.Principal_RemoteIp:
		p.Remote, err = prefixOf(id.RemoteIp)
	case *rbacv3.Principal_DirectRemoteIp:
		p.Direct, err = prefixOf(id.DirectRemoteIp)
	default:
		err = fmt.Errorf("principal %T is not supported", id)
	}
	return p, err
}
