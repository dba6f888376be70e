package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/stats"
)

// handler serves the interface of one source.
type handler struct {
	Options
	start time.Time
	paths map[string]endpoint
	// reading has an element for each who reads what may be large.
	reading chan struct{}
	origin  *http.CrossOriginProtection
}

// endpoint is one path.
type endpoint struct {
	help string
	// post says that it changes something: GET may not.
	post  bool
	serve http.HandlerFunc
}

func newHandler(o *Options) http.Handler {
	h := &handler{Options: *o, start: time.Now(), reading: make(chan struct{}, maxReading), origin: http.NewCrossOriginProtection()}
	h.paths = map[string]endpoint{
		"/":            {"Admin home page", false, h.home},
		"/help":        {"print out list of admin commands", false, h.help},
		"/ready":       {"print server state, return 200 if LIVE, otherwise return 503", false, h.ready},
		"/server_info": {"print server version/status information", false, h.serverInfo},
		"/memory":      {"print current allocation/heap usage", false, h.memory},
		"/stats":       {"print server stats", false, h.stats},
		"/hot_restart_version": {"print the hot restart compatibility version", false, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "disabled")
		}},
	}
	if h.Metrics != nil {
		h.paths["/metrics"] = endpoint{"print what Serai itself counts, in prometheus format", false, h.Metrics.ServeHTTP}
	}
	if h.Metrics != nil || h.View != nil {
		h.paths["/stats/prometheus"] = endpoint{"print server stats in prometheus format", false, h.prometheus}
	}
	if h.View != nil {
		h.paths["/reset_counters"] = endpoint{"reset all counters to zero", true, func(w http.ResponseWriter, _ *http.Request) {
			h.View.Reset()
			fmt.Fprintln(w, "OK")
		}}
	}
	if h.Level != nil {
		h.paths["/logging"] = endpoint{"query/change logging levels", true, h.logging}
	}
	h.planePaths()
	h.actionPaths()
	large := []string{"/stats", "/stats/prometheus", "/reset_counters", "/memory", "/config_dump", "/clusters", "/listeners", "/certs"}
	for path, extra := range h.Extra {
		one := endpoint{extra.Help, extra.Post, extra.ServeHTTP}
		switch {
		case extra.Streams:
		case extra.Post:
			one.serve = inTurn(make(chan struct{}, maxReading), one.serve)
		default:
			large = append(large, path)
		}
		h.paths[path] = one
	}
	for _, path := range large {
		if one, ok := h.paths[path]; ok {
			one.serve = inTurn(h.reading, one.serve)
			h.paths[path] = one
		}
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("Cache-Control", "no-cache, max-age=0")
	header.Set("X-Content-Type-Options", "nosniff")
	path := r.URL.Path
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	one, ok := h.paths[path]
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "invalid path. ")
		h.help(w, r)
	case one.post && r.Method != http.MethodPost:
		header.Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		fmt.Fprintf(w, "Method %s not allowed, POST required.", method(r.Method))
	case r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		fmt.Fprintf(w, "Method %s not allowed.", method(r.Method))
	case h.origin.Check(r) != nil:
		http.Error(w, "a page of another origin may not ask for this", http.StatusForbidden)
	default:
		if r.Body != nil && r.Body != http.NoBody { // which nobody wants, and net/http waits for
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) //nolint:errcheck // then it comes at once
		}
		one.serve(w, r)
	}
}

// method is one that is safe to be shown.
func method(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r < 'A' || r > 'Z' }) || len(name) > 20 {
		return "?"
	}
	return name
}

func (h *handler) sorted() []string {
	var all []string
	for path := range h.paths {
		all = append(all, path)
	}
	slices.Sort(all)
	return all
}

func (h *handler) help(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "admin commands are:")
	for _, path := range h.sorted() {
		post := ""
		if h.paths[path].post {
			post = " (POST)"
		}
		fmt.Fprintf(w, "  %s%s: %s\n", path, post, h.paths[path].help)
	}
}

// home is a page that names all paths; what changes something is a button.
func (h *handler) home(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	fmt.Fprint(w, "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Serai Admin</title></head><body><table>\n<tr><th>Command</th><th>Description</th></tr>\n")
	for _, path := range h.sorted() {
		link := fmt.Sprintf(`<a href="%s">%s</a>`, strings.TrimPrefix(path, "/"), path)
		if h.paths[path].post {
			link = fmt.Sprintf(`<form action="%s" method="post"><button>%s</button></form>`, strings.TrimPrefix(path, "/"), path)
		}
		fmt.Fprintf(w, "<tr><td>%s</td><td>%s</td></tr>\n", link, h.paths[path].help)
	}
	fmt.Fprint(w, "</table></body></html>\n")
}

// state is Envoy's name of how the process is, and why, if it is not live.
func (h *handler) state() (name string, reason error) {
	reason = h.Source.Ready()
	switch {
	case reason == nil:
		return "LIVE", nil
	case strings.HasPrefix(reason.Error(), "draining"):
		return "DRAINING", reason
	default:
		return "PRE_INITIALIZING", reason
	}
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	name, reason := h.state()
	if reason != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "%s\n%s\n", name, reason)
		return
	}
	fmt.Fprintln(w, name)
}

// stats shows numbers as text or JSON; without a View, those of the source.
func (h *handler) stats(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	format := query.Get("format")
	if format == "prometheus" && h.paths["/stats/prometheus"].serve != nil {
		h.prometheus(w, r)
		return
	}
	q, err := statsQuery(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	buckets, ok := stats.ParseBuckets(query.Get("histogram_buckets"))
	if q.Buckets = buckets; !ok {
		http.Error(w, "usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n", http.StatusBadRequest)
		return
	}
	if h.View == nil {
		for name, value := range h.Source.Stats() {
			if q.Filter == nil || q.Filter.MatchString(name) {
				fmt.Fprintf(w, "%s: %d\n", name, value)
			}
		}
		return
	}
	switch format {
	case "json":
		w.Header().Set("Content-Type", "application/json")
		err = h.View.JSON(w, q)
	case "", "text", "html", "active-html":
		err = h.View.Text(w, q)
	default:
		http.Error(w, "usage: /stats?format=(html|active-html|json|prometheus|text)\n", http.StatusBadRequest)
	}
	_ = err // the client is gone
}

func statsQuery(query map[string][]string) (stats.Query, error) {
	get := func(name string) string {
		if values := query[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	_, used := query["usedonly"]
	q := stats.Query{Used: used}
	if text := get("filter"); text != "" {
		var err error
		if q.Filter, err = Pattern(text); err != nil {
			return q, fmt.Errorf("filter: Invalid re2 regex: %w", err)
		}
	}
	switch kind := get("type"); kind {
	case "", "All":
	case "Counters":
		q.Kinds = []stats.Kind{stats.KindCounter}
	case "Gauges":
		q.Kinds = []stats.Kind{stats.KindGauge}
	case "Histograms":
		q.Kinds = []stats.Kind{stats.KindHistogram}
	case "TextReadouts":
		q.Kinds = []stats.Kind{stats.KindText}
	default:
		return q, fmt.Errorf("usage: /stats?type=(All|Counters|Gauges|Histograms|TextReadouts)")
	}
	return q, nil
}

// prometheus shows numbers by Envoy's names, and behind them what Serai itself
// counts.
func (h *handler) prometheus(w http.ResponseWriter, r *http.Request) {
	if h.View == nil {
		h.Metrics.ServeHTTP(w, r)
		return
	}
	q, err := statsQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := h.View.Prometheus(w, q); err != nil || h.Metrics == nil || q.Filter != nil {
		return
	}
	// In the same format, whatever the client would take.
	plain := kept{header: http.Header{}}
	h.Metrics.ServeHTTP(&plain, &http.Request{Method: http.MethodGet, URL: r.URL, Header: http.Header{}})
	if plain.status == 0 || plain.status == http.StatusOK {
		w.Write(plain.Bytes()) //nolint:errcheck // the client is gone
	}
}

// kept is an answer that is kept. The zero status is 200.
type kept struct {
	bytes.Buffer
	header http.Header
	status int
}

func (k *kept) Header() http.Header    { return k.header }
func (k *kept) WriteHeader(status int) { k.status = status }

// Version is that of the module that was built; "" if it is not known.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
