package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/admin"
)

// Paths of the admin interface that serai's own commands ask.
const (
	ExplainPath = "/serai/explain"
	AskPath     = "/serai/ask"
	ChangesPath = "/serai/changes"
	TapPath     = "/serai/tap"
)

// inspection is what the admin interface has beyond Envoy's.
func (p *Proxy) inspection() map[string]admin.Extra {
	return map[string]admin.Extra{
		ExplainPath: {Help: "tell what would become of a request, and why", Handler: p.serveExplain(false)},
		AskPath:     {Help: "tell the same, and ask the services of ext_authz about it", Post: true, Handler: p.serveExplain(true)},
		ChangesPath: {Help: "print what the last updates have changed", Handler: http.HandlerFunc(p.serveChanges)},
		TapPath:     {Help: "stream what passes", Streams: true, Handler: http.HandlerFunc(p.serveTap)},
	}
}

// askTimeout is how long the services may take that are asked about a request; the
// answer is to be written before the admin interface gives it up.
const askTimeout = 10 * time.Second

// Values are the query of ExplainPath that asks q, or of AskPath.
func (q Question) Values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"listener": q.Listener, "upstream": q.Upstream, "from": q.From, "source": q.Source, "destination": q.Destination,
		"sni": q.ServerName, "method": q.Method, "authority": q.Authority, "path": q.Path,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for _, protocol := range q.ALPN {
		v.Add("alpn", protocol)
	}
	for _, field := range q.Header {
		v.Add("header", field[0]+": "+field[1])
	}
	return v
}

func question(v url.Values) (Question, error) {
	q := Question{
		Listener: v.Get("listener"), Upstream: v.Get("upstream"), From: v.Get("from"), Source: v.Get("source"), Destination: v.Get("destination"),
		ServerName: v.Get("sni"), ALPN: v["alpn"], Method: v.Get("method"), Authority: v.Get("authority"), Path: v.Get("path"),
	}
	for _, line := range v["header"] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return q, fmt.Errorf("header %q: write it as name: value", line)
		}
		q.Header = append(q.Header, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return q, nil
}

// serveExplain answers with an Explanation; ask is that of the Question.
func (p *Proxy) serveExplain(ask bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := question(r.URL.Query())
		q.Ask = ask
		var e *Explanation
		if err == nil {
			e, err = p.Explain(q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, e)
	}
}

func (p *Proxy) serveChanges(w http.ResponseWriter, r *http.Request) {
	n, err := 1, error(nil)
	if text := r.URL.Query().Get("n"); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			http.Error(w, "n: it must be a number", http.StatusBadRequest)
			return
		}
	}
	writeJSON(w, p.watcher.Changes(n))
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", " ")
	out.SetEscapeHTML(false)
	out.Encode(v) //nolint:errcheck // the client is gone
}

// tapPatience is how long a client of a tap may take for a line, and how often one
// is told that it still runs.
const tapPatience = 10 * time.Second

// serveTap streams what passes, a line of JSON each, until the client leaves.
func (p *Proxy) serveTap(w http.ResponseWriter, r *http.Request) {
	filter, err := tapFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tap := p.observe.Tap(filter)
	if tap == nil {
		http.Error(w, "there are too many taps already", http.StatusServiceUnavailable)
		return
	}
	defer tap.Close()
	control, out := http.NewResponseController(w), json.NewEncoder(w)
	out.SetEscapeHTML(false)
	w.Header().Set("Content-Type", "application/x-ndjson")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := int64(0)
	say := func(v any) bool {
		if control.SetWriteDeadline(time.Now().Add(tapPatience)) != nil {
			return false
		}
		return (v == nil || out.Encode(v) == nil) && control.Flush() == nil
	}
	for ok := say(nil); ok; {
		select {
		case <-r.Context().Done():
			return
		case seen := <-tap.Seen():
			ok = say(&seen)
		case <-tick.C:
			if dropped := tap.Dropped(); dropped != told {
				told = dropped
				ok = say(map[string]int64{"dropped": dropped})
			}
		}
	}
}

func tapFilter(v url.Values) (telemetry.TapFilter, error) {
	f := telemetry.TapFilter{
		Listener: v.Get("listener"), Cluster: v.Get("upstream"), Method: v.Get("method"), PathPrefix: v.Get("path"),
		Status: v.Get("status"), Peer: v.Get("peer"),
	}
	if f.Status != "" && !telemetry.IsStatus(f.Status) {
		return f, fmt.Errorf("status: %q is neither a code nor a class such as 5xx", f.Status)
	}
	var err error
	if text := v.Get("min_duration"); text != "" {
		if f.MinDuration, err = time.ParseDuration(text); err != nil {
			return f, fmt.Errorf("min_duration: %w", err)
		}
	}
	if text := v.Get("sample"); text != "" {
		if f.Sample, err = strconv.ParseFloat(text, 64); err != nil || !(f.Sample > 0 && f.Sample <= 100) { // nor is NaN
			return f, fmt.Errorf("sample: %q is no percentage", text)
		}
	}
	return f, nil
}
