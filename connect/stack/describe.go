package stack

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// describeRetry says in a line what a policy does; "" for nil.
func describeRetry(r *mesh.Retry) string {
	if r == nil {
		return ""
	}
	parts := []string{fmt.Sprintf("%d more tries on %s", r.Retries, r.On)}
	if len(r.Codes) > 0 {
		parts = append(parts, fmt.Sprintf("codes %v", r.Codes))
	}
	if r.PerTry > 0 {
		parts = append(parts, "per try "+r.PerTry.String())
	}
	if r.PreviousHosts {
		parts = append(parts, "on other endpoints first")
	}
	return strings.Join(parts, ", ")
}

// describeHash says by what a request is hashed.
func describeHash(all []mesh.HashPolicy) []string {
	var out []string
	for i := range all {
		h := &all[i]
		text := "source address"
		switch {
		case h.Header != "":
			text = "header " + h.Header
		case h.Query != "":
			text = "query parameter " + h.Query
		case h.Cookie != nil:
			text = "cookie " + h.Cookie.Name
		}
		if h.Terminal {
			text += ", and nothing after it if it is there"
		}
		out = append(out, text)
	}
	return out
}
