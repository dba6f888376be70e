package signature_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/plugins/bundled/hmac-auth/internal/signature"
)

func TestSettings(t *testing.T) {
	const key = `"keys": {"k": {"secret": "0123456789abcdef", "consumer": "acme"}}`
	for _, row := range []struct{ settings, want string }{
		{`{` + key + `}`, ""},
		{`{` + key + `, "clock_skew": "5m", "required": ["@method", "@method", "date"], "require_nonce": false,
			"unsigned_body": true, "forward_signature": true, "max_nonces": 1000}`, ""},
		{`{}`, `keys are missing; add keys = { "key-id" = { secret = env("..."), consumer = "acme" } }`},
		{
			`{"keys": {}, "clock_skw": "1s", "clock_skew": 30, "required": "@method", "require_nonce": "yes", "max_nonces": 0.5}`,
			`clock_skew is 30; want a time from "1s" to "5m", such as "30s"
"clock_skw" is not known; there is clock_skew, forward_signature, keys, max_nonces, require_nonce, required, unsigned_body
keys must name one key at least: keys = { "key-id" = { secret = env("..."), consumer = "acme" } }
max_nonces is 0.5; want a whole number from 1 to 4194304
require_nonce is yes; want true or false
required is @method; want a list such as ["@method", "@authority", "@path"]`,
		},
		{`{` + key + `, "clock_skew": "6m"}`, `clock_skew is 6m; want a time from "1s" to "5m", such as "30s"`},
		{`{` + key + `, "required": ["Date"]}`, `required has "Date", which is no name of a field in lower case`},
		{`{` + key + `, "required": [1]}`, `required has "", which is no name of a field`},
		{
			`{"keys": {"a": "secret", "b": {"consumer": "x"}, "c": {"secret": "short but secret"}, "d": {"secret": "short", "consumer": "x"},
				"e": {"secret": "0123456789abcdef", "consumer": "x", "alg": "md5"}, "ü": {}}}`,
			`keys has "a", which must be written { secret = env("..."), consumer = "acme" }
has "b", which has no secret; add secret = env("...")
has "c", which has no consumer; add consumer = "NAME", a consumer of the edge
has "d", which has a secret of 5 bytes, which is guessed too easily: take at least 16, as ` + "`openssl rand -hex 32`" + ` prints
has "e", which has "alg"; a key has secret and consumer
has "ü", which is no key ID: want 1 to 128 printable ASCII characters`,
		},
	} {
		var settings map[string]any
		if err := json.Unmarshal([]byte(row.settings), &settings); err != nil {
			t.Fatal(err)
		}
		_, err := signature.New(settings, signature.NewNonces(time.Now()), time.Now, slog.New(slog.DiscardHandler))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s: got\n%s\nwant\n%s", row.settings, got, row.want)
		}
		if strings.Contains(got, "short but secret") {
			t.Error("the error shows a secret")
		}
	}
}
