package integration_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/types/known/structpb"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/serai-net/serai/connect/xds/golden"
	"github.com/serai-net/serai/integration/harness"
)

// casesPerGolden bounds the requests that are made for one golden file.
const casesPerGolden = 120

// TestGoldenRBACAsEnvoy has our proxy and Envoy decide, by each of Consul's RBAC golden files, on requests that are
// made out of what the file itself asks for: identities, paths, methods, headers and metadata that match, and such
// that almost do.
func TestGoldenRBACAsEnvoy(t *testing.T) {
	t.Parallel()
	files, err := golden.Files(t.Context())
	if err != nil {
		harness.Skip(t, "Consul's golden files are not there (make tools fetches them): "+err.Error())
	}
	files = slices.DeleteFunc(files, func(f golden.File) bool { return !strings.HasPrefix(f.Name, "rbac/") })
	if len(files) != 50 {
		t.Fatalf("%d golden files, want 50", len(files))
	}
	ca := newAuthority(t)
	env := harness.ForTest(t)
	twins := staticTwins(t, env, len(files), func(ports []int) (clusters, listeners []json.RawMessage) {
		for i, f := range files {
			listeners = append(listeners, ca.guarded(t, f, ports[i]))
		}
		return nil, listeners
	})
	allowed, denied := 0, 0
	for i, f := range files {
		t.Run(f.Name, func(t *testing.T) {
			for _, c := range casesOf(t, f) {
				got := map[string]string{}
				for kind, twin := range twins {
					got[kind] = c.put(t, ca, twin.ports[i])
				}
				if got["serai"] != got["envoy"] {
					t.Errorf("%s: ours %s, Envoy %s", c, got["serai"], got["envoy"])
				}
				if got["envoy"] == "allowed" {
					allowed++
				} else {
					denied++
				}
			}
		})
	}
	t.Logf("%d requests were allowed, %d denied", allowed, denied)
	if allowed < 500 || denied < 500 {
		t.Errorf("%d allowed, %d denied: the requests are too much of one kind", allowed, denied)
	}
}

// authority signs what the test needs.
type authority struct {
	*signingCA
	clients map[string]*http.Client // by identity
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return &authority{newSigningCA(t, "test"), map[string]*http.Client{}}
}

// leaf is a certificate and its key, of an identity.
func (ca *authority) leaf(t *testing.T, id string) (cert, key []byte) {
	t.Helper()
	return pems(t, ca.issue(t, uris(id)))
}

// client is one whose certificate says id.
func (ca *authority) client(t *testing.T, id string) *http.Client {
	t.Helper()
	if client := ca.clients[id]; client != nil {
		return client
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, uris(id))}, InsecureSkipVerify: true, // who serves is not the question
	}}
	t.Cleanup(transport.CloseIdleConnections)
	ca.clients[id] = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return ca.clients[id]
}

// guarded is a listener that answers 200 to what the filter of a golden file lets through.
func (ca *authority) guarded(t *testing.T, f golden.File, port int) json.RawMessage {
	t.Helper()
	const filters = "type.googleapis.com/envoy.extensions.filters."
	var rules []string
	for _, provider := range []string{"okta", "auth0"} {
		rules = append(rules, fmt.Sprintf(`{"header":"x-%s","remove":true,"on_header_present":{"metadata_namespace":"envoy.filters.http.jwt_authn",
			"key":"jwt_payload_%s","type":"PROTOBUF_VALUE","encode":"BASE64"}}`, provider, provider))
	}
	metadata := fmt.Sprintf(`{"name":"metadata","typed_config":{"@type":"%shttp.header_to_metadata.v3.Config","request_rules":[%s]}},`, filters, strings.Join(rules, ","))
	http, network := metadata+string(f.JSON)+",", ""
	if !strings.HasSuffix(f.Name, "--httpfilter") {
		http, network = "", string(f.JSON)+","
	}
	cert, key := ca.leaf(t, "spiffe://test.consul/ns/default/dc/dc1/svc/guarded")
	return json.RawMessage(fmt.Sprintf(`{"name":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"transport_socket":{"name":"tls",
		"typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","require_client_certificate":true,"common_tls_context":{
			"tls_certificates":[{"certificate_chain":{"inline_string":%q},"private_key":{"inline_string":%q}}],"validation_context":{"trusted_ca":{"inline_string":%q}}}}},
		"filters":[%s{"name":"envoy.filters.network.http_connection_manager","typed_config":{"@type":"%snetwork.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"x",
			"forward_client_cert_details":"APPEND_FORWARD","set_current_client_cert_details":{"uri":true},
			"route_config":{"virtual_hosts":[{"name":"all","domains":["*"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":200,"body":{"inline_string":"ok"}}}]}]},
			"http_filters":[%s{"name":"router","typed_config":{"@type":"%shttp.router.v3.Router"}}]}}]}]}`,
		f.Name, port, cert, key, ca.pem(), network, filters, http, filters))
}

// rbacCase is a request.
type rbacCase struct {
	id, method, path string
	header           [][2]string
}

// String implements fmt.Stringer.
func (c *rbacCase) String() string {
	return fmt.Sprintf("%s %s %q by %s", c.method, c.path, c.header, c.id)
}

// put makes the request: "allowed", "denied" or what else came.
func (c *rbacCase) put(t *testing.T, ca *authority, port int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.method, "https://"+local(port)+c.path, http.NoBody)
	must(t, err)
	for _, h := range c.header {
		req.Header.Add(h[0], h[1])
	}
	got, err := send(ca.client(t, c.id), req)
	switch {
	case err != nil && (strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "reset by peer") || strings.Contains(err.Error(), "server closed")):
		return "denied" // as a network filter does
	case err != nil:
		return err.Error()
	case got.status == http.StatusOK:
		return "allowed"
	case got.status == http.StatusForbidden:
		return "denied"
	default:
		return fmt.Sprintf("status %d: %s", got.status, got.body)
	}
}

// atoms are what a policy asks for.
type atoms struct {
	ids, paths, methods []string
	headers             map[string][]string // values by name; "-" for none
	metadata            map[string]map[string]string
}

func (a *atoms) add(to []string, values ...string) []string {
	for _, v := range values {
		if !slices.Contains(to, v) {
			to = append(to, v)
		}
	}
	return to
}

// collect reads the atoms out of the rules, wherever they stand.
func collect(t *testing.T, rules *rbacv3.RBAC) *atoms {
	t.Helper()
	a := &atoms{headers: map[string][]string{}, metadata: map[string]map[string]string{}}
	a.ids = []string{"spiffe://test.consul/ns/default/dc/dc1/svc/web", "spiffe://test.consul/ns/default/dc/dc1/svc/stranger", "spiffe://other.consul/ns/default/dc/dc1/svc/web"}
	a.paths, a.methods = []string{"/", "/other"}, []string{http.MethodGet, http.MethodDelete}
	must(t, protorange.Range(rules.ProtoReflect(), func(v protopath.Values) error {
		last := v.Index(-1).Value
		msg, ok := last.Interface().(interface{ Interface() proto.Message })
		if !ok {
			return nil
		}
		switch m := msg.Interface().(type) {
		case *rbacv3.Principal_Authenticated:
			a.ids = a.add(a.ids, samples(t, m.GetPrincipalName())...)
		case *matcherv3.PathMatcher:
			a.paths = a.add(a.paths, samples(t, m.GetPath())...)
		case *routev3.HeaderMatcher:
			name, values := m.GetName(), append(samples(t, m.GetStringMatch()), "", "-")
			if name == ":method" {
				a.methods = a.add(a.methods, slices.DeleteFunc(values, unusual)...)
			} else {
				a.headers[name] = a.add(a.headers[name], values...)
			}
		case *matcherv3.MetadataMatcher:
			provider := strings.TrimPrefix(m.GetPath()[0].GetKey(), "jwt_payload_")
			if a.metadata[provider] == nil {
				a.metadata[provider] = map[string]string{}
			}
			var keys []string
			for _, segment := range m.GetPath()[1:] {
				keys = append(keys, segment.GetKey())
			}
			a.metadata[provider][strings.Join(keys, ".")] = m.GetValue().GetStringMatch().GetExact()
		}
		return nil
	}))
	return a
}

// unusual methods get 400 of Envoy, before any filter; ours takes any token (RFC 9110 section 9.1).
func unusual(method string) bool {
	return !slices.Contains([]string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"}, method)
}

// samples are strings that a matcher takes, and such that it almost takes.
func samples(t *testing.T, m *matcherv3.StringMatcher) []string {
	t.Helper()
	var all []string
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		all = []string{p.Exact, p.Exact + "x", p.Exact + "/y", p.Exact + "?q=1", strings.ToUpper(p.Exact)}
	case *matcherv3.StringMatcher_Prefix:
		all = []string{p.Prefix, p.Prefix + "/y", p.Prefix + "?q", "x" + p.Prefix, strings.ToUpper(p.Prefix)}
	case *matcherv3.StringMatcher_Suffix:
		all = []string{p.Suffix, "x" + p.Suffix, p.Suffix + "x"}
	case *matcherv3.StringMatcher_Contains:
		all = []string{p.Contains, "x" + p.Contains + "y", p.Contains[1:], strings.ToUpper(p.Contains)}
	case *matcherv3.StringMatcher_SafeRegex:
		expr, err := syntax.Parse(p.SafeRegex.GetRegex(), syntax.Perl)
		must(t, err)
		for pick := range 4 {
			text := instanceOf(expr, pick)
			all = append(all, text, text+"x", "x"+text)
		}
	}
	return all
}

// regexMatcher is an expression as the matcher of a string.
func regexMatcher(regex *matcherv3.RegexMatcher) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex}}
}

// instanceOf is a text that the expression takes; pick chooses among alternatives.
func instanceOf(re *syntax.Regexp, pick int) string {
	var out strings.Builder
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= 'b' && 'b' <= re.Rune[i+1] {
				return "b"
			}
		}
		return string(re.Rune[2*(pick%(len(re.Rune)/2))])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "k"
	case syntax.OpStar, syntax.OpQuest:
		if pick%2 == 0 {
			return ""
		}
		return instanceOf(re.Sub[0], pick)
	case syntax.OpPlus, syntax.OpCapture:
		return instanceOf(re.Sub[0], pick)
	case syntax.OpAlternate:
		return instanceOf(re.Sub[pick%len(re.Sub)], pick)
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			out.WriteString(instanceOf(sub, pick))
		}
	default:
	}
	return out.String()
}

// casesOf are requests for a golden file, the same in each run.
func casesOf(t *testing.T, f golden.File) []*rbacCase {
	t.Helper()
	a := collect(t, rulesOf(t, f))
	random := mathrand.New(mathrand.NewPCG(6, uint64(len(f.JSON))))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	var all []*rbacCase
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range a.headers {
			if !yield(name) {
				return
			}
		}
	})
	for n := range casesPerGolden {
		c := &rbacCase{id: pick(a.ids), method: pick(a.methods), path: pick(a.paths)}
		if !strings.HasPrefix(c.path, "/") {
			c.path = "/" + c.path
		}
		if n%2 == 0 {
			c.id = a.ids[0]
		}
		wrong := -1 // at most one header does not fit, or all are drawn
		if len(names) > 0 && n%3 > 0 {
			wrong = random.IntN(len(names))
		}
		for i, name := range names {
			value := a.headers[name][0]
			if i == wrong || n%3 == 0 && n > 3 {
				value = pick(a.headers[name])
			}
			if value != "-" {
				c.header = append(c.header, [2]string{name, value})
			}
		}
		for _, provider := range []string{"auth0", "okta"} {
			if claims := a.metadata[provider]; claims != nil && n%5 > 0 {
				c.header = append(c.header, [2]string{"x-" + provider, payload(t, claims, random.IntN(4) == 0, random.IntN(6) == 0)})
			}
		}
		all = append(all, c)
	}
	return all
}

// payload is a JWT's claims as header_to_metadata takes them; wrong spoils one of them, nested puts one into a list.
func payload(t *testing.T, claims map[string]string, wrong, nested bool) string {
	t.Helper()
	all := map[string]any{}
	for _, keys := range slices.Sorted(func(yield func(string) bool) {
		for k := range claims {
			if !yield(k) {
				return
			}
		}
	}) {
		at := all
		parts := strings.Split(keys, ".")
		for _, key := range parts[:len(parts)-1] {
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		var value any = claims[keys]
		if nested {
			value, nested = []any{value}, false
		} else if wrong {
			value, wrong = claims[keys]+"x", false
		}
		at[parts[len(parts)-1]] = value
	}
	value, err := structpb.NewValue(all)
	must(t, err)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(value)
	must(t, err)
	return base64.StdEncoding.EncodeToString(data)
}

// rulesOf are the rules of a filter.
func rulesOf(t *testing.T, f golden.File) *rbacv3.RBAC {
	t.Helper()
	msg := &listenerv3.Filter{}
	must(t, protojson.Unmarshal(f.JSON, msg))
	config, err := msg.GetTypedConfig().UnmarshalNew()
	must(t, err)
	switch config := config.(type) {
	case *httprbacv3.RBAC:
		return config.GetRules()
	case *netrbacv3.RBAC:
		return config.GetRules()
	}
	t.Fatalf("%s is a %T", f.Name, config)
	return nil
}
