package format

import (
	"encoding/json"
	"strings"
)

// CompileHeader reads the text of a header value, in which older spellings of some
// operators are taken, too: %DYNAMIC_METADATA(["namespace", "key"])%,
// %UPSTREAM_METADATA([...])% and %PER_REQUEST_STATE(key)%.
func CompileHeader(source string) (*Text, error) { return Compile(modern(source)) }

// modern is source in today's spelling.
func modern(source string) string {
	for old, now := range map[string]string{
		"%DYNAMIC_METADATA([": "%DYNAMIC_METADATA(", "%UPSTREAM_METADATA([": "%UPSTREAM_METADATA(",
	} {
		source = rewritten(source, old, "])%", func(list string) (string, bool) {
			var keys []string
			if json.Unmarshal([]byte("["+list+"]"), &keys) != nil {
				return "", false
			}
			return now + strings.Join(keys, ":") + ")%", true
		})
	}
	return rewritten(source, "%PER_REQUEST_STATE(", ")%", func(key string) (string, bool) {
		return "%FILTER_STATE(" + key + ":PLAIN)%", true
	})
}

// rewritten replaces what stands between begin and end, with them, by what change
// makes of it.
func rewritten(source, begin, end string, change func(string) (string, bool)) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(source, begin)
		inner, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			break
		}
		out.WriteString(before)
		if changed, ok := change(inner); ok {
			out.WriteString(changed)
		} else {
			out.WriteString(begin + inner + end)
		}
		source = after
	}
	out.WriteString(source)
	return out.String()
}
