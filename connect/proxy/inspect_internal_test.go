package proxy

import (
	"net/url"
	"testing"
)

func TestTapSample(t *testing.T) {
	t.Parallel()
	for text, fine := range map[string]bool{"": true, "0.5": true, "100": true, "0": false, "-1": false, "101": false, "NaN": false, "+Inf": false, "x": false} {
		if _, err := tapFilter(url.Values{"sample": {text}}); (err == nil) != fine {
			t.Errorf("%q: %v", text, err)
		}
	}
}
