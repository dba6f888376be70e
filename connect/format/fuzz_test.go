package format_test

import (
	"encoding/json"
	"testing"

	"github.com/serai-net/serai/connect/format"
)

// Whatever the text is, it compiles or is an error, and what it writes as JSON is
// JSON in one line.
func FuzzCompile(f *testing.F) {
	f.Add(usual, "v")
	f.Add("%START_TIME(%E*S%E3f%%%t)% %REQ(a?b):3%%%", "\xff\"")
	f.Add("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)%%PATH(NQ:ORIG)%%QUERY_PARAM(a):1%", "é")
	f.Add("%DYNAMIC_METADATA(ns):2%", "x")
	f.Add("%DYNAMIC_METADATA(ns:m)%%DOWNSTREAM_PEER_CERT_V_END(%s)%%GRPC_STATUS(NUMBER)%", "\n")
	f.Fuzz(func(t *testing.T, source, value string) {
		text, err := format.Compile(source)
		in := input()
		in.Exchange.Request.Header.Set("x-a", value)
		in.Exchange.Request.Path = value
		in.Exchange.Metadata.Set("ns", "m", value)
		if err == nil {
			text.Append(nil, in)
			text.AppendKnown(nil, in)
		}
		j, err := format.CompileJSON(map[string]any{value: source, "list": []any{source, "%REQ(x-a)%", "a%PATH%"}})
		if err != nil {
			return
		}
		line := j.Append(nil, in)
		if !json.Valid(line) {
			t.Errorf("no JSON: %q", line)
		}
		for _, c := range line {
			if c == '\n' {
				t.Errorf("more than one line: %q", line)
			}
		}
	})
}
