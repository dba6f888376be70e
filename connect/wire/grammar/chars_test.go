package grammar_test

import (
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/wire/grammar"
)

func TestGrammar(t *testing.T) {
	for _, test := range []struct {
		name      string
		ok        func(string) bool
		good, bad []string
	}{
		{"token", grammar.IsToken, []string{"GET", "x-a", "!#$%&'*+-.^_`|~"}, []string{"", "a b", "a:b", "ä", "a\x00"}},
		{"name", grammar.IsName, []string{"host", "x_y"}, []string{"", "Host", ":path", "a b"}},
		{
			"value", func(s string) bool { return grammar.IsValue([]byte(s)) },
			[]string{"", "a\tb", "ünï", strings.Repeat("x", 33)},
			[]string{"a\x00", "12345678\n", "1234\r678", "\x7f"},
		},
		{"target", grammar.IsTarget, []string{"/", "*", "/a%20b?c=%", "/?a=b%zz"}, []string{"", "/ ", "/#", "/%2", "/%zz", "/\x7f", "/ä"}},
		{"visible", grammar.IsVisible, []string{"a", "/x#"}, []string{"", "a b", "\t"}},
		{
			"authority", grammar.IsAuthority,
			[]string{"", "a", "a:80", "a:", "[::1]", "[::1]:443", "10.0.0.1:1"},
			[]string{":80", "a@b", "a:b", "[::1", "[::1]x", "a/b", "[1.2.3.4]", "a:123456", "[fe80::1%25x]"},
		},
		{
			"length", func(s string) bool { return grammar.Length(s) >= 0 },
			[]string{"0", "007", "123456789012345678"},
			[]string{"", "-1", "+1", "1 ", "0x1", "1234567890123456789"},
		},
	} {
		for _, s := range test.good {
			if !test.ok(s) {
				t.Errorf("%s: %q is refused", test.name, s)
			}
		}
		for _, s := range test.bad {
			if test.ok(s) {
				t.Errorf("%s: %q passes", test.name, s)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	if !grammar.HasToken("a, TRAILERS ,b", "trailers") || grammar.HasToken("atrailers", "trailers") {
		t.Error("HasToken")
	}
}
