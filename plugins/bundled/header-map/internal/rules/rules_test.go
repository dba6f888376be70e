package rules_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/bundled/header-map/internal/rules"
)

func settings(t *testing.T, text string) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// header is "name: value" lines.
func header(lines ...string) []plugins.Field {
	var all []plugins.Field
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, plugins.Field{Name: name, Value: value})
	}
	return all
}

// changed is the header after a change, as the edge makes it.
func changed(before []plugins.Field, c plugins.HeaderChange) []plugins.Field {
	drop := func(name string) {
		before = slices.DeleteFunc(before, func(f plugins.Field) bool { return f.Name == name })
	}
	before = slices.Clone(before)
	for _, name := range c.Remove {
		drop(name)
	}
	for _, f := range c.Set {
		drop(f.Name)
		before = append(before, f)
	}
	return append(before, c.Add...)
}

func TestRules(t *testing.T) {
	before := []string{"a: 1", "b: 2", "b: 3", "c: 4", "x-i-1: 5", "x-i-2: 6"}
	for _, row := range []struct {
		name, rules string
		want        []string
	}{
		{"set", `{"set": "A", "value": "7"}`, []string{"a: 7", "b: 2", "b: 3", "c: 4", "x-i-1: 5", "x-i-2: 6"}},
		{"set anew", `{"set": "d", "value": ""}`, []string{"a: 1", "b: 2", "b: 3", "c: 4", "d: ", "x-i-1: 5", "x-i-2: 6"}},
		{"set one for two", `{"set": "b", "value": "7"}`, []string{"a: 1", "b: 7", "c: 4", "x-i-1: 5", "x-i-2: 6"}},
		{"set to what it is", `{"set": "a", "value": "1"}`, nil},
		{"rename", `{"rename": "a", "to": "d"}`, []string{"b: 2", "b: 3", "c: 4", "d: 1", "x-i-1: 5", "x-i-2: 6"}},
		{"rename two", `{"rename": "b", "to": "D"}`, []string{"a: 1", "c: 4", "d: 2", "d: 3", "x-i-1: 5", "x-i-2: 6"}},
		{"rename over another", `{"rename": "b", "to": "c"}`, []string{"a: 1", "c: 2", "c: 3", "x-i-1: 5", "x-i-2: 6"}},
		{"rename to itself", `{"rename": "b", "to": "b"}`, nil},
		{"rename nothing", `{"rename": "d", "to": "c"}`, nil},
		{"remove", `{"remove": "b"}`, []string{"a: 1", "c: 4", "x-i-1: 5", "x-i-2: 6"}},
		{"remove nothing", `{"remove": "d"}`, nil},
		{"remove by prefix", `{"remove": "X-I-*"}`, []string{"a: 1", "b: 2", "b: 3", "c: 4"}},
		{"in order", `{"rename": "a", "to": "d"}, {"set": "a", "value": "8"}, {"remove": "d"}`, []string{"a: 8", "b: 2", "b: 3", "c: 4", "x-i-1: 5", "x-i-2: 6"}},
		{"and back", `{"rename": "a", "to": "d"}, {"rename": "d", "to": "a"}`, nil},
		{"when it has a value", `{"remove": "a", "when": {"header": "B", "value": "3"}}`, []string{"b: 2", "b: 3", "c: 4", "x-i-1: 5", "x-i-2: 6"}},
		{"when it has not", `{"remove": "a", "when": {"header": "b", "value": "1"}}`, nil},
		{"when it is there", `{"remove": "a", "when": {"header": "c", "present": true}}`, []string{"b: 2", "b: 3", "c: 4", "x-i-1: 5", "x-i-2: 6"}},
		{"when it is not", `{"set": "d", "value": "9", "when": {"header": "d", "present": false}}`, []string{"a: 1", "b: 2", "b: 3", "c: 4", "d: 9", "x-i-1: 5", "x-i-2: 6"}},
		{"a default that is not needed", `{"set": "a", "value": "9", "when": {"header": "a", "present": false}}`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, side := range []string{"request", "response"} {
				m, err := rules.New(settings(t, `{"`+side+`": [`+row.rules+`]}`))
				if err != nil {
					t.Fatal(err)
				}
				request, err := m.TransformRequest(t.Context(), &plugins.Request{Header: header(before...)})
				if err != nil {
					t.Fatal(err)
				}
				response, err := m.TransformResponse(t.Context(), &plugins.Request{}, &plugins.Response{Status: 200, Header: header(before...)})
				if err != nil {
					t.Fatal(err)
				}
				var change *plugins.HeaderChange
				if request != nil {
					change = &request.HeaderChange
				}
				if side == "response" {
					if request != nil {
						t.Errorf("rules for responses change requests: %+v", request)
					}
					change = nil
					if response != nil {
						change = &response.HeaderChange
					}
				}
				if change == nil || row.want == nil {
					if change != nil || row.want != nil {
						t.Errorf("%s: change %+v, want %v", side, change, row.want)
					}
					continue
				}
				got := changed(header(before...), *change)
				slices.SortStableFunc(got, func(a, b plugins.Field) int { return strings.Compare(a.Name, b.Name) })
				if diff := cmp.Diff(header(row.want...), got); diff != "" {
					t.Errorf("%s: %s", side, diff)
				}
			}
		})
	}
}

// What a prefix finds, but nobody may change, stays.
func TestPrefixSparesWhatIsNotOurs(t *testing.T) {
	m, err := rules.New(settings(t, `{"request": [{"remove": "x-*"}, {"remove": "t*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	change, err := m.TransformRequest(t.Context(), &plugins.Request{Header: header("x-a: 1", "x-serai-consumer: acme", "te: trailers", "tea: 1")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x-a", "tea"}, change.Remove); diff != "" {
		t.Error(diff)
	}
}

func TestSettings(t *testing.T) {
	for _, row := range []struct{ settings, want string }{
		{`{}`, `there is no rule; add request = [{ rename = "x-old", to = "x-new" }], or response`},
		{`{"request": [], "response": []}`, `there is no rule; add request = [{ rename = "x-old", to = "x-new" }], or response`},
		{`{"requests": [], "request": {}}`, `request is map[]; want a list such as [{ rename = "x-old", to = "x-new" }]
"requests" is not known; there is request and response`},
		{
			`{"response": ["x", {}, {"set": "a"}, {"set": "a", "remove": "b", "value": "c"}, {"remove": "a", "value": "b"}, {"rename": "a", "to": 1}]}`,
			`response rule 1 is x; want an object such as { set = "x-name", value = "..." }
response rule 2 must have one of set (with value), rename (with to) and remove
response rule 3 needs value, which is a string
response rule 4 must have one of set (with value), rename (with to) and remove
response rule 5 has "value", which does not belong to it
response rule 6 needs to, which is a string`,
		},
		{
			`{"request": [{"remove": "Host"}, {"set": "x_serai-consumer", "value": "root"}, {"rename": "a", "to": "b c"}, {"remove": "*"},
			{"set": "a", "value": "b\nc"}, {"set": "a", "value": " b"}, {"remove": 1}]}`,
			`request rule 1 has "host", which belongs to the connection and cannot be changed
request rule 2 has "x_serai-consumer", which is set by the edge itself: upstreams trust it
request rule 3 has "b c", which is no name of a field
request rule 4 would concern all fields; name them, or the beginning of their names
request rule 5 has a value for "a" with a line break, or with blanks at its ends
request rule 6 has a value for "a" with a line break, or with blanks at its ends
request rule 7 has "", which is no name of a field`,
		},
		{
			`{"request": [{"remove": "a", "when": "b"}, {"remove": "a", "when": {"header": "b"}}, {"remove": "a", "when": {"header": "b", "value": "c", "present": true}}]}`,
			`request rule 1 has when, which is b; want { header = "x-name", value = "..." }, or present = true or false in the place of value
request rule 2 has when with other things than these; want { header = "x-name", value = "..." }, or present = true or false in the place of value
request rule 3 has when with other things than these; want { header = "x-name", value = "..." }, or present = true or false in the place of value`,
		},
		{`{"request": [` + strings.Repeat(`{"remove": "a"},`, 64) + `{"remove": "a"}]}`, `request has 65 rules; at most 64`},
	} {
		_, err := rules.New(settings(t, row.settings))
		if got := ""; err == nil || err.Error() != row.want {
			if err != nil {
				got = err.Error()
			}
			t.Errorf("%s: got\n%s\nwant\n%s", row.settings, got, row.want)
		}
	}
}

// Whatever the settings: an error, or rules that change nothing of the edge's.
func FuzzRules(f *testing.F) {
	f.Add([]byte(`{"request": [{"rename": "a", "to": "b"}, {"set": "c", "value": "d", "when": {"header": "a", "present": true}}]}`))
	f.Add([]byte(`{"request": [{"remove": "x-s*"}], "response": []}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all map[string]any
		if json.Unmarshal(text, &all) != nil {
			return
		}
		m, err := rules.New(all)
		if err != nil {
			return
		}
		before := header("a: 1", "b: 2", "x-serai-consumer: acme", "host: x")
		change, err := m.TransformRequest(t.Context(), &plugins.Request{Header: before})
		if err != nil {
			t.Fatal(err)
		}
		if change == nil {
			return
		}
		after := changed(before, change.HeaderChange)
		for _, f := range []plugins.Field{{Name: "x-serai-consumer", Value: "acme"}, {Name: "host", Value: "x"}} {
			if !slices.Contains(after, f) {
				t.Errorf("%s: %v", text, after)
			}
		}
	})
}
