package signature

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/plugins"
)

// base is what is signed (RFC 9421 section 2.5).
func (m *message) base(r *plugins.Request) ([]byte, error) {
	var b []byte
	for _, name := range m.components {
		value, err := component(r, name)
		if err != nil {
			return nil, err
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `": `...)
		b = append(b, value...)
		b = append(b, '\n')
	}
	b = append(b, `"@signature-params": `...)
	return append(b, m.params...), nil
}

// component is the value of what checkComponent takes (RFC 9421 section 2).
func component(r *plugins.Request, name string) (string, error) {
	path, query, _ := strings.Cut(r.Path, "?")
	switch name {
	case "@method":
		return r.Method, nil
	case "@authority":
		return authority(r), nil
	case "@scheme":
		return strings.ToLower(r.Scheme), nil
	case "@target-uri":
		return strings.ToLower(r.Scheme) + "://" + authority(r) + r.Path, nil
	case "@request-target":
		return r.Path, nil
	case "@path":
		return path, nil
	case "@query":
		return "?" + query, nil
	}
	return field(r, name)
}

// field is all values of a field, joined (RFC 9421 section 2.1).
func field(r *plugins.Request, name string) (string, error) {
	values := valuesOf(r, name)
	if len(values) == 0 {
		return "", fmt.Errorf("the signature covers the field %q, which the request does not have", name)
	}
	for i, value := range values {
		if strings.ContainsAny(value, "\r\n") {
			return "", fmt.Errorf("the field %q has a line break", name)
		}
		values[i] = strings.Trim(value, " \t")
	}
	return strings.Join(values, ", "), nil
}

// valuesOf lists the values of a field in order.
func valuesOf(r *plugins.Request, name string) []string {
	var values []string
	for _, f := range r.Header {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// authority is in lower case and without the scheme's own port (RFC 9421 section
// 2.2.3).
func authority(r *plugins.Request) string {
	host := strings.ToLower(r.Authority)
	port := ":80"
	if strings.EqualFold(r.Scheme, "https") {
		port = ":443"
	}
	return strings.TrimSuffix(host, port)
}

// covers tells whether the signature protects what is required. Some components
// say all that others do.
func (m *message) covers(required string) bool {
	for _, name := range m.components {
		switch {
		case name == required:
			return true
		case name == "@target-uri" && (required == "@authority" || required == "@scheme" || required == "@path" ||
			required == "@query" || required == "@request-target"):
			return true
		case name == "@request-target" && (required == "@path" || required == "@query"):
			return true
		}
	}
	return false
}
