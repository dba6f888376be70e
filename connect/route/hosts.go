package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// hosts finds the rules of an authority: exact names first, then the longest
// suffix ("*.example.com"), then the longest prefix ("www.*"), then "*".
type hosts struct {
	exact          map[string][]*Rule
	suffix, prefix []wildcard
	any            []*Rule
	hasAny         bool
	// ignorePort looks for an authority without its port.
	ignorePort bool
}

type wildcard struct {
	text  string
	rules []*Rule
}

func (h *hosts) add(domain string, rules []*Rule) error {
	domain = strings.ToLower(domain)
	duplicate := false
	switch {
	case domain == "*":
		duplicate = h.hasAny
		h.any, h.hasAny = rules, true
	case strings.HasPrefix(domain, "*"):
		duplicate = slices.ContainsFunc(h.suffix, func(w wildcard) bool { return w.text == domain[1:] })
		h.suffix = append(h.suffix, wildcard{domain[1:], rules})
	case strings.HasSuffix(domain, "*"):
		text := domain[:len(domain)-1]
		duplicate = slices.ContainsFunc(h.prefix, func(w wildcard) bool { return w.text == text })
		h.prefix = append(h.prefix, wildcard{text, rules})
	default:
		if h.exact == nil {
			h.exact = map[string][]*Rule{}
		}
		_, duplicate = h.exact[domain]
		h.exact[domain] = rules
	}
	if duplicate {
		return fmt.Errorf("domain %q occurs twice", domain)
	}
	return nil
}

func (h *hosts) sort() {
	longest := func(a, b wildcard) int { return cmp.Compare(len(b.text), len(a.text)) }
	slices.SortStableFunc(h.suffix, longest)
	slices.SortStableFunc(h.prefix, longest)
}

func (h *hosts) find(authority string) []*Rule {
	if h.exact == nil && h.suffix == nil && h.prefix == nil {
		return h.any
	}
	if h.ignorePort {
		authority = withoutPort(authority)
	}
	authority = strings.ToLower(authority) // allocates only if there is something to lower
	if rules, ok := h.exact[authority]; ok {
		return rules
	}
	for _, w := range h.suffix {
		if len(authority) > len(w.text) && strings.HasSuffix(authority, w.text) {
			return w.rules
		}
	}
	for _, w := range h.prefix {
		if len(authority) > len(w.text) && strings.HasPrefix(authority, w.text) {
			return w.rules
		}
	}
	return h.any
}

// withoutPort cuts ":port" off an authority; IPv6 addresses keep their brackets.
func withoutPort(authority string) string {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || strings.IndexByte(authority[colon:], ']') >= 0 {
		return authority
	}
	return authority[:colon]
}
