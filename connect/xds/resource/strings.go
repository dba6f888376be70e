package resource

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// stringMatch reads a string matcher and tries it out, so that whoever compiles
// it later meets no surprise.
func stringMatch(msg *matcherv3.StringMatcher) (mesh.StringMatch, error) {
	m := mesh.StringMatch{IgnoreCase: msg.GetIgnoreCase()}
	switch p := msg.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		m.Kind, m.Exact = mesh.MatchExact, p.Exact
	case *matcherv3.StringMatcher_Prefix:
		m.Kind, m.Prefix = mesh.MatchPrefix, p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		m.Kind, m.Suffix = mesh.MatchSuffix, p.Suffix
	case *matcherv3.StringMatcher_Contains:
		m.Kind, m.Contains = mesh.MatchContains, p.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		m.Kind, m.Regex = mesh.MatchRegex, p.SafeRegex.GetRegex()
	default:
		return m, fmt.Errorf("string matcher of unknown kind")
	}
	return m, tryString(m)
}

func tryString(m mesh.StringMatch) error {
	_, err := match.String(m)
	return err
}

// headerMatch reads a header matcher, also in its deprecated spellings.
func headerMatch(msg *routev3.HeaderMatcher) (mesh.HeaderMatch, error) {
	h := mesh.HeaderMatch{
		Name: msg.GetName(), Invert: msg.GetInvertMatch(),
		TreatMissingAsEmpty: msg.GetTreatMissingHeaderAsEmpty(),
	}
	var err error
	switch s := msg.GetHeaderMatchSpecifier().(type) {
	case nil:
		h.Present = true
	case *routev3.HeaderMatcher_PresentMatch:
		h.Present, h.Invert = true, h.Invert == s.PresentMatch
	case *routev3.HeaderMatcher_StringMatch:
		h.Value, err = stringMatch(s.StringMatch)
	case *routev3.HeaderMatcher_ExactMatch:
		h.Value.Exact = s.ExactMatch
	case *routev3.HeaderMatcher_PrefixMatch:
		h.Value.Kind, h.Value.Prefix = mesh.MatchPrefix, s.PrefixMatch
	case *routev3.HeaderMatcher_SuffixMatch:
		h.Value.Kind, h.Value.Suffix = mesh.MatchSuffix, s.SuffixMatch
	case *routev3.HeaderMatcher_ContainsMatch:
		h.Value.Kind, h.Value.Contains = mesh.MatchContains, s.ContainsMatch
	case *routev3.HeaderMatcher_SafeRegexMatch:
		h.Value.Kind, h.Value.Regex = mesh.MatchRegex, s.SafeRegexMatch.GetRegex()
	case *routev3.HeaderMatcher_RangeMatch:
		h.Range = &mesh.NumberRange{First: s.RangeMatch.GetStart(), End: s.RangeMatch.GetEnd()}
		if h.Range.First >= h.Range.End {
			err = fmt.Errorf("range from %d to %d", h.Range.First, h.Range.End)
		}
	default:
		err = fmt.Errorf("matcher of this kind is not supported")
	}
	if err == nil {
		_, err = match.Header(h)
	}
	if err != nil {
		return h, fmt.Errorf("header %q: %w", h.Name, err)
	}
	return h, nil
}

func queryMatch(msg *routev3.QueryParameterMatcher) (mesh.QueryMatch, error) {
	q := mesh.QueryMatch{Name: msg.GetName()}
	var err error
	if s, ok := msg.GetQueryParameterMatchSpecifier().(*routev3.QueryParameterMatcher_StringMatch); ok {
		q.Value, err = stringMatch(s.StringMatch)
	} else {
		q.Present = true
	}
	if err == nil {
		_, err = match.Query(q)
	}
	if err != nil {
		return q, fmt.Errorf("query parameter %q: %w", q.Name, err)
	}
	return q, nil
}
