package integration_test

import (
	"testing"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3" // which the values name

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// given is a value of a field that nobody would guess, such as the configuration of an extension: JSON of the message that the
// field is in. What excludes it is left out.
type given struct{ json, without string }

// givenValues are those by the field's full name.
func givenValues() map[protoreflect.FullName]given {
	const filterOff = `{"typedPerFilterConfig":{"envoy.filters.http.rbac":{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig","disabled":true}}}`
	const metadata = `"path":[{"key":"k"}],"value":{"stringMatch":{"exact":"v"}}`
	return map[protoreflect.FullName]given{
		"envoy.config.route.v3.RouteMatch.path_match_policy":                                                                 {json: `{"pathMatchPolicy":{"name":"t","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig","pathTemplate":"/a/{b}"}}}`},
		"envoy.config.route.v3.RetryPolicy.retry_host_predicate":                                                             {json: `{"retryHostPredicate":[{"name":"envoy.retry_host_predicates.previous_hosts","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]}`},
		"envoy.config.route.v3.RetryPolicy.retry_priority":                                                                   {json: `{"retryPriority":{"name":"p","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig","updateFrequency":2}}}`},
		"envoy.config.route.v3.RouteConfiguration.typed_per_filter_config":                                                   {json: filterOff},
		"envoy.config.route.v3.VirtualHost.typed_per_filter_config":                                                          {json: filterOff},
		"envoy.config.route.v3.Route.typed_per_filter_config":                                                                {json: filterOff},
		"envoy.config.route.v3.WeightedCluster.ClusterWeight.typed_per_filter_config":                                        {json: filterOff},
		"envoy.config.route.v3.WeightedCluster.ClusterWeight.cluster_header":                                                 {json: `{"clusterHeader":"x"}`, without: "name"},
		"envoy.config.route.v3.RouteAction.grpc_timeout_offset":                                                              {json: `{"maxGrpcTimeout":"5s","grpcTimeoutOffset":"1s"}`},
		"envoy.config.rbac.v3.Permission.sourced_metadata":                                                                   {json: `{"sourcedMetadata":{"metadataMatcher":{"filter":"f",` + metadata + `}}}`},
		"envoy.config.rbac.v3.Principal.sourced_metadata":                                                                    {json: `{"sourcedMetadata":{"metadataMatcher":{"filter":"f",` + metadata + `}}}`},
		"envoy.extensions.filters.http.header_to_metadata.v3.Config.response_rules":                                          {json: `{"responseRules":[{"header":"x","onHeaderPresent":{"key":"k"}}]}`},
		"envoy.extensions.filters.http.header_to_metadata.v3.Config.Rule.on_header_missing":                                  {json: `{"onHeaderMissing":{"key":"k","value":"v"}}`},
		"envoy.extensions.filters.http.lua.v3.Lua.inline_code":                                                               {json: `{"inlineCode":"function envoy_on_request(h) end"}`, without: "default_source_code"},
		"envoy.extensions.filters.http.lua.v3.Lua.source_codes":                                                              {json: `{"sourceCodes":{"a":{"inlineString":"function envoy_on_request(h) end"}}}`},
		"envoy.config.route.v3.RouteAction.HashPolicy.Cookie.attributes":                                                     {json: `{"attributes":[{"name":"Secure"}]}`},
		"envoy.config.rbac.v3.Principal.remote_ip":                                                                           {json: `{"remoteIp":{"addressPrefix":"10.0.0.0","prefixLen":8}}`},
		"envoy.extensions.filters.http.header_to_metadata.v3.Config.Rule.cookie":                                             {json: `{"cookie":"c"}`, without: "header"},
		"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.scheme_header_transformation":     {json: `{"schemeHeaderTransformation":{"schemeToOverwrite":"https"}}`},
		"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.original_ip_detection_extensions": {json: `{"originalIpDetectionExtensions":[{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig","xffNumTrustedHops":1}}]}`},
		"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.local_reply_config":               {json: `{"localReplyConfig":{"bodyFormat":{"textFormat":"x"}}}`},
	}
}

// setGiven sets the given value of a field.
func setGiven(t *testing.T, field protoreflect.FieldDescriptor) []func(protoreflect.Message) {
	t.Helper()
	v, ok := givenValues()[field.FullName()]
	if !ok {
		return nil
	}
	return []func(protoreflect.Message){func(m protoreflect.Message) {
		from := m.New().Interface()
		must(t, protojson.Unmarshal([]byte(v.json), from))
		m.Clear(field)
		if v.without != "" {
			m.Clear(m.Descriptor().Fields().ByName(protoreflect.Name(v.without)))
		}
		proto.Merge(m.Interface(), from)
	}}
}

// found are ways to set a field to what it is elsewhere in the files, or not to set it.
func (p *prober) found(field protoreflect.FieldDescriptor) []func(protoreflect.Message) {
	all := []func(protoreflect.Message){func(m protoreflect.Message) { m.Clear(field) }}
	for _, v := range p.seen[field.FullName()] {
		all = append(all, func(m protoreflect.Message) {
			from := m.New()
			from.Set(field, v)
			copied := proto.Clone(from.Interface()).ProtoReflect().Get(field)
			m.Set(field, copied)
		})
	}
	if field.Message() == nil || field.IsMap() {
		return all
	}
	for _, v := range p.kinds[field.Message().FullName()] {
		all = append(all, func(m protoreflect.Message) {
			copied := protoreflect.ValueOfMessage(proto.Clone(v.Interface()).ProtoReflect())
			if field.IsList() {
				m.Mutable(field).List().Append(copied)
			} else {
				m.Set(field, copied)
			}
		})
	}
	return all
}

// inOrder calls yield with the fields that are set, in the order of their definition: protobuf's own order is another one
// in each build.
func inOrder(m protoreflect.Message, yield func(protoreflect.FieldDescriptor, protoreflect.Value) bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); m.Has(field) && !yield(field, m.Get(field)) {
			return
		}
	}
}
