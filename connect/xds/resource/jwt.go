package resource

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

func (d *decoder) jwt(msg *hcmv3.HttpFilter) (*mesh.JWT, error) {
	config := &jwtv3.JwtAuthentication{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return nil, err
	}
	// filter_state_rules would need filters that set such a state; there are none.
	err := d.only(config, "providers rules bypass_cors_preflight requirement_map strip_failure_response stat_prefix", "")
	if err != nil {
		return nil, err
	}
	j := &mesh.JWT{
		Providers: map[string]*mesh.JWTProvider{}, BypassPreflight: config.GetBypassCorsPreflight(),
		Silent: config.GetStripFailureResponse(), StatPrefix: config.GetStatPrefix(),
	}
	for name, provider := range config.GetProviders() {
		if j.Providers[name], err = d.jwtProvider(provider); err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.GetRequirementMap())) {
		if j.Named == nil {
			j.Named = map[string]*mesh.JWTRequirement{}
		}
		if j.Named[name], err = d.jwtRequirement(config.GetRequirementMap()[name], j.Providers, 0); err != nil {
			j.Named[name] = &mesh.JWTRequirement{Refusal: err.Error()}
		}
	}
	for _, msg := range config.GetRules() {
		rule := mesh.JWTRule{}
		if err := d.only(msg, "match requires requirement_name", ""); err != nil {
			return nil, err
		}
		if err := d.match(msg.GetMatch(), &rule.Match); err != nil {
			return nil, fmt.Errorf("rule: %w", err)
		}
		if name := msg.GetRequirementName(); name != "" {
			if rule.Requires = j.Named[name]; rule.Requires == nil {
				return nil, fmt.Errorf("requirement %q is not known", name)
			}
			if reason := rule.Requires.Refusal; reason != "" {
				return nil, fmt.Errorf("requirement %s: %s", name, reason)
			}
		}
		if requires := msg.GetRequires(); requires != nil {
			if rule.Requires, err = d.jwtRequirement(requires, j.Providers, 0); err != nil {
				return nil, fmt.Errorf("rule: %w", err)
			}
		}
		j.Rules = append(j.Rules, rule)
	}
	return j, nil
}

func (d *decoder) jwtRequirement(msg *jwtv3.JwtRequirement, known map[string]*mesh.JWTProvider, depth int) (*mesh.JWTRequirement, error) {
	if depth >= maxNested {
		return nil, errors.New("requirements are nested too deeply")
	}
	r := &mesh.JWTRequirement{}
	var err error
	switch requires := msg.GetRequiresType().(type) {
	case nil: // always fulfilled
		return r, nil
	case *jwtv3.JwtRequirement_ProviderName:
		r.Provider = requires.ProviderName
	case *jwtv3.JwtRequirement_ProviderAndAudiences:
		r.Provider, r.Audiences = requires.ProviderAndAudiences.GetProviderName(), requires.ProviderAndAudiences.GetAudiences()
	case *jwtv3.JwtRequirement_RequiresAny:
		r.Any, err = d.jwtRequirements(requires.RequiresAny.GetRequirements(), known, depth)
		return r, err
	case *jwtv3.JwtRequirement_RequiresAll:
		r.All, err = d.jwtRequirements(requires.RequiresAll.GetRequirements(), known, depth)
		return r, err
	case *jwtv3.JwtRequirement_AllowMissingOrFailed:
		r.AllowFailed = true
		return r, nil
	case *jwtv3.JwtRequirement_AllowMissing:
		r.AllowMissing = true
		return r, nil
	default:
		return nil, fmt.Errorf("requirement %T is not supported", requires)
	}
	if known[r.Provider] == nil {
		return nil, fmt.Errorf("provider %q is not known", r.Provider)
	}
	return r, nil
}

func (d *decoder) jwtRequirements(msgs []*jwtv3.JwtRequirement, known map[string]*mesh.JWTProvider, depth int) ([]mesh.JWTRequirement, error) {
	if len(msgs) < 2 { // Envoy refuses it, too
		return nil, errors.New("a list of fewer than two requirements")
	}
	var out []mesh.JWTRequirement
	for _, msg := range msgs {
		r, err := d.jwtRequirement(msg, known, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, *r)
	}
	return out, nil
}

func (d *decoder) jwtProvider(msg *jwtv3.JwtProvider) (*mesh.JWTProvider, error) {
	err := d.only(msg, "issuer audiences subjects require_expiration max_lifetime clock_skew_seconds local_jwks remote_jwks"+
		" from_headers from_params from_cookies forward forward_payload_header pad_forward_payload_header payload_in_metadata"+
		" normalize_payload_in_metadata header_in_metadata claim_to_headers jwt_cache_config failed_status_in_metadata clear_route_cache", "")
	if err != nil {
		return nil, err
	}
	p := &mesh.JWTProvider{
		Issuer: msg.GetIssuer(), Audiences: msg.GetAudiences(), RequireExpiration: msg.GetRequireExpiration(),
		MaxLifetime: duration(msg.GetMaxLifetime(), 0), ClockSkew: time.Duration(msg.GetClockSkewSeconds()) * time.Second,
		Params: msg.GetFromParams(), Cookies: msg.GetFromCookies(),
		Forward: msg.GetForward(), PayloadHeader: strings.ToLower(msg.GetForwardPayloadHeader()), PadPayload: msg.GetPadForwardPayloadHeader(),
		PayloadMetadata: msg.GetPayloadInMetadata(), HeaderMetadata: msg.GetHeaderInMetadata(),
		FailedMetadata: msg.GetFailedStatusInMetadata(), ClearRoute: msg.GetClearRouteCache(),
		SpaceDelimited: msg.GetNormalizePayloadInMetadata().GetSpaceDelimitedClaims(),
		CacheSize:      int(msg.GetJwtCacheConfig().GetJwtCacheSize()), CacheLongest: int(msg.GetJwtCacheConfig().GetJwtMaxTokenSize()),
	}
	if subjects := msg.GetSubjects(); subjects != nil {
		m, err := stringMatch(subjects)
		if err != nil {
			return nil, fmt.Errorf("subjects: %w", err)
		}
		p.Subjects = &m
	}
	if msg.GetMaxLifetime() != nil && p.MaxLifetime == 0 {
		return nil, errors.New("max_lifetime of 0")
	}
	for _, h := range msg.GetFromHeaders() {
		p.Headers = append(p.Headers, mesh.JWTHeader{Name: strings.ToLower(h.GetName()), Prefix: h.GetValuePrefix()})
	}
	for _, c := range msg.GetClaimToHeaders() {
		if err := d.only(c, "header_name claim_name", ""); err != nil {
			return nil, err
		}
		p.ClaimHeaders = append(p.ClaimHeaders, mesh.ClaimHeader{Header: strings.ToLower(c.GetHeaderName()), Claim: c.GetClaimName()})
	}
	return p, d.jwks(msg, p)
}

func (d *decoder) jwks(msg *jwtv3.JwtProvider, p *mesh.JWTProvider) error {
	switch source := msg.GetJwksSourceSpecifier().(type) {
	case nil:
		return errors.New("no keys")
	case *jwtv3.JwtProvider_LocalJwks:
		var err error
		if p.Keys, err = d.text(source.LocalJwks); err != nil {
			return fmt.Errorf("local_jwks: %w", err)
		}
		return nil
	case *jwtv3.JwtProvider_RemoteJwks:
		var err error
		if p.Remote, err = d.remoteKeys(source.RemoteJwks); err != nil {
			return fmt.Errorf("remote_jwks: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("keys from %T are not supported", source)
	}
}

func (d *decoder) remoteKeys(msg *jwtv3.RemoteJwks) (*mesh.RemoteKeys, error) {
	if err := d.only(msg, "http_uri cache_duration async_fetch retry_policy", ""); err != nil {
		return nil, err
	}
	r := &mesh.RemoteKeys{
		Cluster: msg.GetHttpUri().GetCluster(), URI: msg.GetHttpUri().GetUri(), Timeout: duration(msg.GetHttpUri().GetTimeout(), 0),
		CacheFor: duration(msg.GetCacheDuration(), 0),
	}
	if r.Cluster == "" || r.URI == "" {
		return nil, errors.New("http_uri without a cluster or a uri")
	}
	if fetch := msg.GetAsyncFetch(); fetch != nil {
		// No listener waits for keys here, whatever fast_listener says.
		if err := d.only(fetch, "fast_listener failed_refetch_duration", ""); err != nil {
			return nil, err
		}
		r.Ahead, r.RetryAfter = true, duration(fetch.GetFailedRefetchDuration(), 0)
	}
	if retry := msg.GetRetryPolicy(); retry != nil {
		if err := d.only(retry, "retry_back_off num_retries", "retry_on"); err != nil {
			return nil, err
		}
		r.Retries = 1
		if n := retry.GetNumRetries(); n != nil {
			r.Retries = int(min(n.GetValue(), maxKeyRetries))
		}
		r.PauseBase = duration(retry.GetRetryBackOff().GetBaseInterval(), time.Second)
		r.PauseMax = duration(retry.GetRetryBackOff().GetMaxInterval(), 10*r.PauseBase)
	}
	return r, nil
}

// maxKeyRetries is more than anybody means.
const maxKeyRetries = 100
