package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
)

func connectExplainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tell what a running sidecar would do with a request, and why",
		ArgsUsage: "[METHOD] [URL]",
		Description: "It prints the listener, filter chain, intentions, route, clusters and endpoints that a request\n" +
			"would meet, by the very tables that serve, and why each alternative would not be taken.\n" +
			"It is asked of the public listener, unless -listener or -upstream says of which.\n" +
			"Nothing is sent, and filters that would call somebody else are not asked: what is presumed of them\n" +
			"is said, and what ext_authz would ask. With -ask that is asked, and the answer taken into account.\n" +
			"Scripts and Lambda are never run. Tokens given with -H are verified, by keys that the sidecar has.\n\n" +
			"Examples:\n\n" +
			"  serai connect explain -from web GET /orders/7          # at our public listener\n" +
			"  serai connect explain -upstream api GET http://api/v1 -H 'x-canary: 1'\n" +
			"  serai connect explain -listener db:127.0.0.1:5432      # raw bytes",
		Flags: append(append(passingFlags(),
			&cli.StringFlag{Name: "source", Usage: "`address` of who calls"},
			&cli.StringFlag{Name: "destination", Usage: "`address` before a redirect (transparent proxy)"},
			&cli.StringFlag{Name: "sni", Usage: "server `name` of the TLS handshake"},
			&cli.StringSliceFlag{Name: "alpn", Usage: "`protocol` that the TLS handshake offers"},
			&cli.BoolFlag{Name: "ask", Usage: "ask the service of ext_authz about the request"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "`field` of the request, as name: value"},
		), askFlags()...),
		Action: runConnectExplain,
	}
}

func runConnectExplain(c *cli.Context) error {
	inJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	q, err := questionOf(c)
	if err != nil {
		return &usageError{command: "connect explain", err: err}
	}
	method, path := http.MethodGet, proxy.ExplainPath
	if q.Ask {
		method, path = http.MethodPost, proxy.AskPath // others hear of it
	}
	answer, err := ask(c.Context, c, method, path, q.Values())
	if err != nil {
		return err
	}
	defer answer.Close()
	if inJSON {
		_, err := io.Copy(c.App.Writer, io.LimitReader(answer, maxAnswer))
		return err
	}
	var e proxy.Explanation
	if err := read(answer, &e); err != nil {
		return err
	}
	(&explainer{out: c.App.Writer, method: cmp.Or(q.Method, "GET")}).all(&e)
	return nil
}

// questionOf reads flags and the request line.
func questionOf(c *cli.Context) (proxy.Question, error) {
	q := proxy.Question{
		Listener: c.String("listener"), Upstream: c.String("upstream"), From: c.String("from"), Source: c.String("source"),
		Destination: c.String("destination"), ServerName: c.String("sni"), ALPN: c.StringSlice("alpn"),
		Ask: c.Bool("ask"),
	}
	if q.Listener != "" && q.Upstream != "" {
		return q, errors.New("give one of -listener and -upstream")
	}
	words := c.Args().Slice()
	if len(words) > 2 {
		return q, fmt.Errorf("%q is one too many: write METHOD URL", words[2])
	}
	if len(words) > 0 {
		target := words[len(words)-1]
		if len(words) == 2 {
			q.Method = words[0]
		}
		u, err := url.Parse(target)
		if err != nil || u.Path == "" && u.Host == "" || u.Host == "" && !strings.HasPrefix(target, "/") {
			return q, fmt.Errorf("%q is no URL: write http://service/path, or /path", target)
		}
		q.Authority, q.Path = u.Host, u.RequestURI()
	}
	for _, line := range c.StringSlice("header") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return q, fmt.Errorf("-H %q: write it as 'name: value'", line)
		}
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			q.Authority = strings.TrimSpace(value)
			continue
		}
		q.Header = append(q.Header, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return q, nil
}

// explainer writes an explanation for people.
type explainer struct {
	out    io.Writer
	method string // of the request that was asked about
}

func (w *explainer) line(depth int, format string, args ...any) {
	fmt.Fprintf(w.out, "%s%s\n", strings.Repeat("  ", depth), fmt.Sprintf(format, args...))
}

// title begins a line with what it is about.
func (w *explainer) title(name, format string, args ...any) {
	w.line(0, "%s %s", paint(os.Stdout, bold, fmt.Sprintf("%-11s", name)), fmt.Sprintf(format, args...))
}

// choice is a line for one of several.
func (w *explainer) choice(chosen bool, text, why string) {
	if chosen {
		w.line(1, "%s %s", paint(os.Stdout, green, ">"), text)
		return
	}
	w.line(1, "  %s %s", text, paint(os.Stdout, yellow, "("+why+")"))
}

func (w *explainer) all(e *proxy.Explanation) {
	w.title("listener", "%s at %s, configuration %d", e.Listener, e.Address, e.Version)
	if e.From != "" {
		w.title("caller", "%s", e.From)
	}
	found := false
	w.title("chains", "%d", len(e.Chains))
	for _, c := range e.Chains {
		w.choice(c.Chosen, c.Kind+" for "+c.Match, c.Why)
		found = found || c.Chosen
	}
	switch {
	case !found:
		w.title("result", "%s", paint(os.Stdout, red, "no chain is for this connection: it is closed"))
		return
	case e.Refusal != "":
		w.title("result", "%s", paint(os.Stdout, red, "the chain is refused, it closes every connection: "+e.Refusal))
		return
	}
	w.intentions(e.Intentions)
	if e.Denied {
		w.title("result", "%s", paint(os.Stdout, red, "the intentions do not allow this connection: it is closed"))
	}
	for _, note := range e.Presumed {
		w.title("presumed", "%s", paint(os.Stdout, yellow, note))
	}
	if e.HTTP != nil {
		w.http(e.HTTP)
	}
	w.targets(e.Targets)
}

func (w *explainer) intentions(all []rbac.Verdict) {
	for _, v := range all {
		text, by := "denies", "no policy matches"
		if v.Allowed {
			text = "allows"
		}
		if v.By != "" {
			by = "policy " + v.By
		}
		w.title("intentions", "%s %s: %s", v.Action, text, by)
		for _, p := range v.Policies {
			w.choice(p.Matches, p.Name, p.Why)
		}
	}
}

func (w *explainer) http(e *stack.Explanation) {
	w.title("request", "%s %s%s", w.method, e.Authority, e.Path)
	for _, f := range e.Filters {
		w.title("filter", "%s: %s", f.Name, f.Verdict)
		for _, note := range f.Notes {
			w.line(1, "  %s", paint(os.Stdout, yellow, note))
		}
		w.intentions(f.Intentions)
	}
	if len(e.Rules) > 0 {
		w.title("routes", "%s, virtual host %s", e.Table, strings.Join(e.Domains, " "))
	}
	for _, r := range e.Rules {
		text := r.Match
		if r.Name != "" {
			text = r.Name + ": " + text
		}
		w.choice(r.Chosen, text, r.Why)
	}
	if a := e.Answer; a != nil {
		location := ""
		if a.Location != "" {
			location = " to " + a.Location
		}
		w.title("result", "%s", paint(os.Stdout, yellow, fmt.Sprintf("status %d%s: %s", a.Status, location, a.Why)))
		return
	}
	if f := e.Forward; f != nil {
		w.title("forward", "%s%s, timeout %s, idle timeout %s", f.Authority, f.Path, f.Timeout, f.IdleTimeout)
		if f.Retry != "" {
			w.title("retry", "%s", f.Retry)
		}
		if len(f.Hash) > 0 {
			w.title("hash", "%s", strings.Join(f.Hash, "; "))
		}
		w.targets(f.Targets)
	}
}

func (w *explainer) targets(all []stack.Share) {
	for i := range all {
		w.cluster(fmt.Sprintf("%.4g %% ", all[i].Percent), &all[i].Cluster)
	}
}

func (w *explainer) cluster(share string, d *upstream.Description) {
	if d.Refusal != "" {
		w.title("cluster", "%s%s: %s", share, d.Name, paint(os.Stdout, red, d.Refusal))
		return
	}
	security := "plain"
	if d.TLS {
		security = "TLS to " + strings.Join(append([]string{d.ServerName}, d.Names...), " ")
	}
	w.title("cluster", "%s%s (%s, %s, %s), fit for %d %%", share, d.Name, d.Kind, d.Balance, security, d.HealthPercent)
	for _, e := range d.Endpoints {
		text := fmt.Sprintf("%s %s, weight %d, priority %d", e.Address, e.Health, e.Weight, e.Priority)
		w.choice(e.Candidate, text, e.Why)
	}
	if len(d.Endpoints)+len(d.Members) == 0 {
		w.line(1, "%s", paint(os.Stdout, red, "it has no endpoints: 503"))
	}
	for i := range d.Members {
		w.cluster("member ", &d.Members[i])
	}
}
