package resource

import (
	"errors"
	"fmt"
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	templatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	rewritev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// match reads what chooses a rule. If it is not understood, m is left to match
// at least as much.
func (d *decoder) match(msg *routev3.RouteMatch, m *mesh.Match) error {
	err := d.only(msg, "prefix path safe_regex path_separated_prefix connect_matcher path_match_policy case_sensitive headers"+
		" query_parameters grpc runtime_fraction tls_context", "")
	switch p := msg.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		m.Prefix = p.Prefix
	case *routev3.RouteMatch_Path:
		m.Path = p.Path
	case *routev3.RouteMatch_SafeRegex:
		if _, bad := match.Regex(p.SafeRegex.GetRegex()); bad != nil {
			m.Prefix = "/"
			return bad
		}
		m.Regex = p.SafeRegex.GetRegex()
	case *routev3.RouteMatch_PathSeparatedPrefix:
		m.PathPrefix = p.PathSeparatedPrefix
	case *routev3.RouteMatch_ConnectMatcher_:
		m.Prefix = ""
		m.Headers = []mesh.HeaderMatch{{Name: ":method", Value: mesh.StringMatch{Exact: http.MethodConnect}}}
	case *routev3.RouteMatch_PathMatchPolicy:
		template, bad := pathTemplate(p.PathMatchPolicy)
		if bad != nil {
			m.Prefix = "/"
			return bad
		}
		m.Template = template
	default:
		m.Prefix = "/"
	}
	if sensitive := msg.GetCaseSensitive(); sensitive != nil {
		m.IgnoreCase = !sensitive.GetValue()
	}
	for _, h := range msg.GetHeaders() {
		hm, bad := headerMatch(h)
		if bad != nil {
			err = bad
			continue
		}
		m.Headers = append(m.Headers, hm)
	}
	for _, q := range msg.GetQueryParameters() {
		qm, bad := queryMatch(q)
		if bad != nil {
			err = bad
			continue
		}
		m.Query = append(m.Query, qm)
	}
	if bad := d.matchMore(msg, m); bad != nil {
		err = bad
	}
	return err
}

// matchMore reads what few rules ask for.
func (d *decoder) matchMore(msg *routev3.RouteMatch, m *mesh.Match) error {
	m.GRPC = msg.GetGrpc() != nil
	if f := msg.GetRuntimeFraction(); f != nil {
		share, err := d.share(f)
		if err != nil {
			return fmt.Errorf("runtime_fraction: %w", err)
		}
		m.HasShare, m.Share = true, share
	}
	if c := msg.GetTlsContext(); c != nil {
		// A certificate that is shown is verified, or there is no connection.
		presented, validated := c.GetPresented(), c.GetValidated()
		switch {
		case presented == nil && validated == nil:
		case presented != nil && validated != nil && presented.GetValue() != validated.GetValue():
			return errors.New("tls_context asks for a certificate that is shown and not verified")
		default:
			shown := presented.GetValue() || validated.GetValue()
			m.Certificate = &shown
		}
	}
	return nil
}

// share reads a share of requests in millionths. There is no runtime that could say
// otherwise than its default.
func (d *decoder) share(msg *corev3.RuntimeFractionalPercent) (uint32, error) {
	if err := d.only(msg, "default_value", "- runtime_key"); err != nil {
		return 0, err
	}
	if msg.GetDefaultValue() == nil {
		return 0, errors.New("without a default_value")
	}
	return millionths(msg.GetDefaultValue())
}

const (
	templateType        = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
	templateRewriteType = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"
)

// pathTemplate reads a URI template and tries it out.
func pathTemplate(msg *corev3.TypedExtensionConfig) (string, error) {
	if typ := typeOf(msg.GetTypedConfig()); typ != templateType {
		return "", fmt.Errorf("path_match_policy of type %q is not supported", typ)
	}
	config := &templatev3.UriTemplateMatchConfig{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return "", err
	}
	_, err := match.Template(config.GetPathTemplate())
	return config.GetPathTemplate(), err
}

// templateRewrite reads what becomes of a path that a template has matched.
func templateRewrite(msg *corev3.TypedExtensionConfig, template string) (string, error) {
	if msg == nil {
		return "", nil
	}
	if typ := typeOf(msg.GetTypedConfig()); typ != templateRewriteType {
		return "", fmt.Errorf("path_rewrite_policy of type %q is not supported", typ)
	}
	config := &rewritev3.UriTemplateRewriteConfig{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return "", err
	}
	if template == "" {
		return "", errors.New("path_rewrite_policy without a path_match_policy")
	}
	_, err := match.RewriteTemplate(template, config.GetPathTemplateRewrite())
	return config.GetPathTemplateRewrite(), err
}
