package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const maxRules = 64 // of each side

// read reads settings as encoding/json decodes them.
func (m *Mapper) read(settings map[string]any) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		var err error
		switch name {
		case "request":
			m.request, err = readRules(settings[name])
		case "response":
			m.response, err = readRules(settings[name])
		default:
			errs = append(errs, fmt.Errorf("%q is not known; there is request and response", name))
		}
		if err != nil {
			for _, one := range split(err) {
				errs = append(errs, fmt.Errorf("%s %w", name, one))
			}
		}
	}
	return errors.Join(errs...)
}

func split(err error) []error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		return many.Unwrap()
	}
	return []error{err}
}

func readRules(value any) ([]rule, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf(`is %v; want a list such as [{ rename = "x-old", to = "x-new" }]`, value)
	}
	if len(list) > maxRules {
		return nil, fmt.Errorf("has %d rules; at most %d", len(list), maxRules)
	}
	var rules []rule
	var errs []error
	for i, one := range list {
		r, err := readRule(one)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %d %w", i+1, err))
		}
		rules = append(rules, r)
	}
	return rules, errors.Join(errs...)
}

func readRule(value any) (rule, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return rule{}, fmt.Errorf(`is %v; want an object such as { set = "x-name", value = "..." }`, value)
	}
	var r rule
	argument := "" // that belongs to the action
	actions := 0
	for _, one := range []struct {
		name, argument string
		what           action
	}{{"set", "value", set}, {"rename", "to", rename}, {"remove", "", remove}} {
		if fields[one.name] == nil {
			continue
		}
		actions++
		r.what, argument = one.what, one.argument
		r.name, _ = fields[one.name].(string)
		if one.argument == "" {
			continue
		}
		if r.arg, ok = fields[one.argument].(string); !ok {
			return rule{}, fmt.Errorf("needs %s, which is a string", one.argument)
		}
	}
	if actions != 1 {
		return rule{}, errors.New(`must have one of set (with value), rename (with to) and remove`)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains([]string{"set", "rename", "remove", "when", argument}, name) {
			return rule{}, fmt.Errorf("has %q, which does not belong to it", name)
		}
	}
	if err := r.normalize(); err != nil {
		return rule{}, err
	}
	var err error
	r.when, err = readCondition(fields["when"])
	return r, err
}

// normalize lowers names and checks what will be changed.
func (r *rule) normalize() error {
	r.name = strings.ToLower(r.name)
	if prefix, ok := strings.CutSuffix(r.name, "*"); ok && r.what == remove && prefix != "" {
		r.what, r.name = removePrefix, prefix
	}
	if r.name == "*" {
		return errors.New("would concern all fields; name them, or the beginning of their names")
	}
	if err := check(r.name); err != nil {
		return fmt.Errorf("has %w", err)
	}
	switch r.what {
	case rename:
		r.arg = strings.ToLower(r.arg)
		if err := check(r.arg); err != nil {
			return fmt.Errorf("has %w", err)
		}
	case set:
		if strings.Trim(r.arg, " \t") != r.arg || strings.ContainsFunc(r.arg, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return fmt.Errorf("has a value for %q with a line break, or with blanks at its ends", r.name)
		}
	case remove, removePrefix:
	}
	return nil
}

func readCondition(value any) (condition, error) {
	if value == nil {
		return condition{}, nil
	}
	const want = `want { header = "x-name", value = "..." }, or present = true or false in the place of value`
	fields, ok := value.(map[string]any)
	if !ok {
		return condition{}, fmt.Errorf("has when, which is %v; "+want, value)
	}
	name, _ := fields["header"].(string)
	c := condition{name: strings.ToLower(name)}
	var isText, isBool, present bool
	c.value, isText = fields["value"].(string)
	present, isBool = fields["present"].(bool)
	if !isToken(c.name) || isText == isBool || len(fields) != 2 {
		return condition{}, errors.New("has when with other things than these; " + want)
	}
	if isBool {
		c.absent, c.anyValue = !present, present
	}
	return c, nil
}

// check takes names of fields that a plugin may change. Serai checks it once
// more; here it becomes an error of the configuration.
func check(name string) error {
	if !isToken(name) {
		return fmt.Errorf("%q, which is no name of a field", name)
	}
	switch name {
	case "connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-connection", "te",
		"trailer", "transfer-encoding", "upgrade":
		return fmt.Errorf("%q, which belongs to the connection and cannot be changed", name)
	}
	if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-serai-") {
		return fmt.Errorf("%q, which is set by the edge itself: upstreams trust it", name)
	}
	return nil
}

// isToken is RFC 9110 section 5.6.2, in lower case.
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}
