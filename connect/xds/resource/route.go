package resource

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
)

// routeTimeout is what an unset timeout of a route means.
const routeTimeout = 15 * time.Second

// Route reads a route table. What is not understood of the whole table or of a
// virtual host refuses each of its rules.
func Route(body []byte) (*mesh.Route, []string, error) {
	msg := &routev3.RouteConfiguration{}
	if err := parse(body, msg); err != nil {
		return nil, nil, err
	}
	d := &decoder{}
	return d.route(msg), d.notes, nil
}

func (d *decoder) route(msg *routev3.RouteConfiguration) *mesh.Route {
	r := &mesh.Route{
		Name: msg.GetName(), ValidateClusters: msg.GetValidateClusters().GetValue(),
		SpecificWins: msg.GetMostSpecificHeaderMutationsWins(),
		IgnorePort:   msg.GetIgnorePortInHostMatching(), IgnoreParameters: msg.GetIgnorePathParametersInPathMatching(),
		Filters: d.overrides(msg.GetTypedPerFilterConfig(), nil),
	}
	err := d.only(msg, "name virtual_hosts validate_clusters request_headers_to_add request_headers_to_remove"+
		" response_headers_to_add response_headers_to_remove most_specific_header_mutations_wins request_mirror_policies"+
		" ignore_port_in_host_matching ignore_path_parameters_in_path_matching typed_per_filter_config",
		"- max_direct_response_body_size_bytes metadata")
	if err == nil {
		r.Edit, err = edit(msg)
	}
	from := inherited{filters: []overrides{r.Filters}}
	if err == nil {
		from.mirrors, err = d.mirrors(msg.GetRequestMirrorPolicies())
	}
	for _, vh := range msg.GetVirtualHosts() {
		r.VirtualHosts = append(r.VirtualHosts, d.virtualHost(vh, from, err))
	}
	return r
}

// inherited is what a rule takes from its virtual host and table unless it says
// otherwise.
type inherited struct {
	// retry reads the policy of the virtual host, once for all its rules.
	retry   func() (*mesh.Retry, error)
	mirrors []mesh.Mirror
	// filters is what is said about filters, the most specific first.
	filters []overrides
}

// virtualHost reads a virtual host of a table for which err was found.
func (d *decoder) virtualHost(msg *routev3.VirtualHost, from inherited, err error) *mesh.VirtualHost {
	vh := &mesh.VirtualHost{
		Name: msg.GetName(), Domains: lowerAll(msg.GetDomains()),
		RequestAttempts: msg.GetIncludeRequestAttemptCount(), ResponseAttempts: msg.GetIncludeAttemptCountInResponse(),
		TimeoutRetry: msg.GetIncludeIsTimeoutRetryHeader(), Filters: d.overrides(msg.GetTypedPerFilterConfig(), from.filters),
	}
	from.filters = append([]overrides{vh.Filters}, from.filters...)
	if err == nil {
		err = d.only(msg, "name domains routes retry_policy require_tls request_headers_to_add request_headers_to_remove"+
			" response_headers_to_add response_headers_to_remove include_request_attempt_count include_attempt_count_in_response"+
			" include_is_timeout_retry_header request_mirror_policies typed_per_filter_config",
			"virtual_clusters per_request_buffer_limit_bytes request_body_buffer_limit hedge_policy - metadata")
	}
	if err == nil {
		vh.TLS, err = requireTLS(msg.GetRequireTls())
	}
	if err == nil {
		vh.Edit, err = edit(msg)
	}
	from.retry = sync.OnceValues(func() (*mesh.Retry, error) { return d.retry(msg.GetRetryPolicy()) })
	if len(msg.GetRequestMirrorPolicies()) > 0 && err == nil {
		from.mirrors, err = d.mirrors(msg.GetRequestMirrorPolicies())
	}
	for _, route := range msg.GetRoutes() {
		vh.Rules = append(vh.Rules, d.rule(route, from, err))
	}
	return vh
}

func requireTLS(msg routev3.VirtualHost_TlsRequirementType) (mesh.TLSRequirement, error) {
	switch msg {
	case routev3.VirtualHost_NONE:
		return mesh.TLSOptional, nil
	case routev3.VirtualHost_EXTERNAL_ONLY:
		return mesh.TLSForExternal, nil
	case routev3.VirtualHost_ALL:
		return mesh.TLSForAll, nil
	default:
		return 0, fmt.Errorf("require_tls %d is not supported", msg)
	}
}

// rule reads one route of a virtual host for which err was found. A rule whose
// match is not understood takes all that it may be meant for.
func (d *decoder) rule(msg *routev3.Route, from inherited, err error) *mesh.Rule {
	r := &mesh.Rule{
		Name: msg.GetName(), Filters: d.overrides(msg.GetTypedPerFilterConfig(), from.filters), Metadata: d.filterMetadata(msg.GetMetadata()),
	}
	if matchErr := d.match(msg.GetMatch(), &r.Match); err == nil {
		err = matchErr
	}
	if err == nil {
		err = d.only(msg, "name match route redirect direct_response request_headers_to_add request_headers_to_remove"+
			" response_headers_to_add response_headers_to_remove typed_per_filter_config metadata",
			"decorator tracing per_request_buffer_limit_bytes request_body_buffer_limit stat_prefix")
	}
	if err == nil {
		r.Edit, err = edit(msg)
	}
	if err == nil {
		err = d.action(msg, from, r)
	}
	if err != nil {
		*r = mesh.Rule{Name: r.Name, Match: r.Match, Filters: r.Filters, Metadata: r.Metadata, Refusal: reason(err)}
	}
	return r
}

func (d *decoder) action(msg *routev3.Route, from inherited, r *mesh.Rule) error {
	switch action := msg.GetAction().(type) {
	case *routev3.Route_Route:
		return d.forward(action.Route, from, r)
	case *routev3.Route_Redirect:
		return d.redirect(action.Redirect, r)
	case *routev3.Route_DirectResponse:
		if err := d.only(action.DirectResponse, "status body", ""); err != nil {
			return err
		}
		r.Direct = &mesh.DirectResponse{Status: int(action.DirectResponse.GetStatus())}
		if body := action.DirectResponse.GetBody(); body != nil {
			var err error
			if r.Direct.Body, err = inline(body); err != nil {
				return fmt.Errorf("direct_response: %w", err)
			}
		}
		return nil
	default:
		return fmt.Errorf("route action %T is not supported", action)
	}
}

func (d *decoder) redirect(msg *routev3.RedirectAction, r *mesh.Rule) error {
	err := d.only(msg, "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite regex_rewrite"+
		" strip_query response_code", "")
	if err != nil {
		return err
	}
	if msg.GetPortRedirect() > 65535 {
		return fmt.Errorf("redirect to port %d", msg.GetPortRedirect())
	}
	r.Redirect = &mesh.Redirect{
		Scheme: msg.GetSchemeRedirect(), Host: msg.GetHostRedirect(), Path: msg.GetPathRedirect(),
		Port: uint16(msg.GetPortRedirect()), Prefix: msg.GetPrefixRewrite(), StripQuery: msg.GetStripQuery(),
	}
	if r.Redirect.Regex, err = substitution(msg.GetRegexRewrite()); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	if msg.GetHttpsRedirect() {
		r.Redirect.Scheme = "https"
	}
	switch msg.GetResponseCode() {
	case routev3.RedirectAction_FOUND:
		r.Redirect.Status = http.StatusFound
	case routev3.RedirectAction_SEE_OTHER:
		r.Redirect.Status = http.StatusSeeOther
	case routev3.RedirectAction_TEMPORARY_REDIRECT:
		r.Redirect.Status = http.StatusTemporaryRedirect
	case routev3.RedirectAction_PERMANENT_REDIRECT:
		r.Redirect.Status = http.StatusPermanentRedirect
	default:
		r.Redirect.Status = http.StatusMovedPermanently
	}
	return nil
}

// edits is what tables, virtual hosts, routes and weighted clusters have in
// common.
type edits interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

func edit(msg edits) (mesh.HeaderEdit, error) {
	e := mesh.HeaderEdit{
		RequestRemove:  lowerAll(msg.GetRequestHeadersToRemove()),
		ResponseRemove: lowerAll(msg.GetResponseHeadersToRemove()),
	}
	for _, name := range slices.Concat(e.RequestRemove, e.ResponseRemove) {
		if name == "host" || strings.HasPrefix(name, ":") {
			return e, fmt.Errorf("header %s may not be removed", name)
		}
	}
	var err error
	if e.RequestSet, err = headerValues(msg.GetRequestHeadersToAdd()); err != nil {
		return e, err
	}
	e.ResponseSet, err = headerValues(msg.GetResponseHeadersToAdd())
	return e, err
}

func headerValues(options []*corev3.HeaderValueOption) ([]mesh.HeaderValue, error) {
	var out []mesh.HeaderValue
	for _, o := range options {
		v := mesh.HeaderValue{Name: strings.ToLower(o.GetHeader().GetKey()), Value: o.GetHeader().GetValue()}
		if v.Value == "" {
			v.Value = string(o.GetHeader().GetRawValue())
		}
		if v.Name == "" {
			return nil, fmt.Errorf("header to add without a name")
		}
		if v.Name[0] == ':' || v.Name == "host" {
			return nil, fmt.Errorf("header %s may not be set", v.Name)
		}
		text, err := format.CompileHeader(v.Value)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", v.Name, err)
		}
		v.KeepEmpty = o.GetKeepEmptyValue()
		if plain, ok := text.Plain(); ok {
			v.Value = plain
		} else {
			v.Value, v.Text = "", v.Value
		}
		if v.Value == "" && v.Text == "" && !v.KeepEmpty {
			continue // Envoy drops such a field
		}
		switch o.GetAppendAction() {
		case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			v.Append = mesh.AppendOrAdd
			if a := o.GetAppend(); a != nil && !a.GetValue() { // deprecated, still sent by old ones
				v.Append = mesh.OverwriteOrAdd
			}
		case corev3.HeaderValueOption_ADD_IF_ABSENT:
			v.Append = mesh.AddIfAbsent
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			v.Append = mesh.OverwriteOrAdd
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
			v.Append = mesh.OverwriteIfExists
		default:
			return nil, fmt.Errorf("header %s: append_action %d is not supported", v.Name, o.GetAppendAction())
		}
		out = append(out, v)
	}
	return out, nil
}
