package consumer_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/serai-net/serai/edge/consumer"
)

func TestStore(t *testing.T) {
	digest := consumer.DigestOf("hashed")
	s, err := consumer.NewStore([]consumer.Config{
		{Name: "acme", Plan: "gold", Metadata: map[string]string{"team": "x"}, Keys: []consumer.KeyConfig{
			{Name: "a", Key: "plain\n"}, {Name: "b", SHA256: strings.ToUpper(hex.EncodeToString(digest[:])) + "  -\n"},
		}},
		{Name: "beta"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"plain": "acme/a", "hashed": "acme/b", "plain\n": "", "": "", hex.EncodeToString(digest[:]): "",
	} {
		got := ""
		if k := s.ByKey(key); k != nil {
			got = k.Consumer.Name + "/" + k.Name
		}
		if got != want {
			t.Errorf("%q is %q's, want %q", key, got, want)
		}
		if name, ok := s.Caller(key); ok != (want != "") || !strings.HasPrefix(want, name) {
			t.Errorf("Caller(%q) = %q, %t", key, name, ok)
		}
	}
	if acme := s.ByName("acme"); acme == nil || acme.Plan != "gold" || acme.Metadata["team"] != "x" {
		t.Errorf("%+v", acme)
	}
	if s.ByName("gamma") != nil || s.Len() != 2 {
		t.Errorf("gamma: %+v, %d consumers", s.ByName("gamma"), s.Len())
	}
}

// Errors come with what is known of the position, and never show a key.
func TestStoreErrors(t *testing.T) {
	_, err := consumer.NewStore([]consumer.Config{
		{Name: "acme", Pos: "a.hcl:1", Keys: []consumer.KeyConfig{{Name: "k", Key: "secret"}, {Name: "l", Key: " ", Pos: "a.hcl:3"}}},
		{Name: "acme", Pos: "a.hcl:5"},
		{Name: ""},
		{Name: "beta\r\n"},
		{Name: "gamma", Keys: []consumer.KeyConfig{{Name: "same", Key: "secret"}, {Name: "bad", SHA256: "zz"}}},
	})
	const want = `a.hcl:3: key "l" of consumer "acme" has no key; add sha256 = "..." or key = env("...")
a.hcl:5: duplicate consumer "acme"; the first is at a.hcl:1
a consumer has no name
consumer "beta\r\n": name and plan are sent in header fields, and have a character that cannot be
key "same" of consumer "gamma" is the same as key "k" of consumer "acme"; give each its own
key "bad" of consumer "gamma" has a sha256 that is not 64 hexadecimal digits; printf %s KEY | sha256sum prints it`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func BenchmarkByKey(b *testing.B) {
	s, err := consumer.NewStore([]consumer.Config{{Name: "a", Keys: []consumer.KeyConfig{{Name: "k", Key: "0123456789abcdef"}}}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if s.ByKey("0123456789abcdef") == nil {
			b.Fatal("not found")
		}
	}
}
