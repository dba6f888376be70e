package admin

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"regexp/syntax"
	"time"
)

const (
	// maxConnections bounds those to the interface: there must be descriptors left for
	// what we are here for.
	maxConnections = 1024
	// maxReading bounds who reads what may be large at a time, turnTimeout how long
	// others wait for their turn, and readTimeout how long reading may take then.
	maxReading               = 4
	turnTimeout, readTimeout = 10 * time.Second, 15 * time.Second
	// bodyTimeout is how long a body may take to come.
	bodyTimeout = 5 * time.Second
	// maxPattern bounds an expression in bytes, maxStates its repetitions written out.
	maxPattern, maxStates = 4096, 2000
)

// inTurn lets few be served at a time, as many as turns has room for. The listeners of
// Consul's for metrics lead whoever reaches them here.
func inTurn(turns chan struct{}, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		wait := time.NewTimer(turnTimeout)
		defer wait.Stop()
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTimeout)) //nolint:errcheck // then that of the server holds
			serve(w, r)
		case <-r.Context().Done():
		case <-wait.C:
			http.Error(w, "too many are asking at a time: try again", http.StatusServiceUnavailable)
		}
	}
}

// Pattern compiles an expression that names are asked for by, of whoever asks. It is an
// error if it would take too long to look for.
func Pattern(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("it is longer than %d bytes", maxPattern)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if states(tree) > maxStates {
		return nil, errors.New("it repeats too much")
	}
	return regexp.Compile(text)
}

// states is about how many states an expression has, or more than maxStates.
func states(tree *syntax.Regexp) int {
	n := 1 + len(tree.Rune)
	for _, sub := range tree.Sub {
		n += states(sub)
	}
	if tree.Op == syntax.OpRepeat {
		n *= max(1, tree.Min, tree.Max)
	}
	return min(n, maxStates+1)
}
