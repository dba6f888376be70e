package resource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	h2mv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

const (
	// maxMetadata bounds the metadata of a cluster or an endpoint, in bytes, and
	// maxMetadataDepth how deep values may be nested.
	maxMetadata      = 64 << 10
	maxMetadataDepth = 32
)

// filterMetadata reads what is said of a cluster or an endpoint, for who logs: no traffic
// hangs on it. What is too much of it is noted, and left out.
func (d *decoder) filterMetadata(msg *corev3.Metadata) mesh.Metadata {
	var all mesh.Metadata
	if size := proto.Size(msg); size > maxMetadata {
		d.note("metadata of %d bytes is ignored: that is too much", size)
		return nil
	}
	for namespace, fields := range msg.GetFilterMetadata() {
		if tooDeep(fields, 0) {
			d.note("metadata is ignored: it is nested deeper than %d", maxMetadataDepth)
			continue
		}
		if len(fields.GetFields()) > 0 {
			if all == nil {
				all = mesh.Metadata{}
			}
			all[namespace] = fields.AsMap()
		}
	}
	return all
}

// tooDeep tells whether fields, which stand so deep, are nested too deep.
func tooDeep(fields *structpb.Struct, depth int) bool {
	for _, v := range fields.GetFields() {
		if valueTooDeep(v, depth+1) {
			return true
		}
	}
	return false
}

func valueTooDeep(v *structpb.Value, depth int) bool {
	if depth > maxMetadataDepth {
		return true
	}
	return tooDeep(v.GetStructValue(), depth) ||
		slices.ContainsFunc(v.GetListValue().GetValues(), func(one *structpb.Value) bool { return valueTooDeep(one, depth+1) })
}

func (d *decoder) headerToMetadata(msg *hcmv3.HttpFilter) (*mesh.HeaderToMetadata, error) {
	config := &h2mv3.Config{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return nil, err
	}
	err := d.only(config, "request_rules response_rules", " - stat_prefix")
	if err != nil {
		return nil, err
	}
	f := &mesh.HeaderToMetadata{}
	if f.Request, err = d.metadataRules(config.GetRequestRules()); err != nil {
		return nil, err
	}
	f.Response, err = d.metadataRules(config.GetResponseRules())
	return f, err
}

func (d *decoder) metadataRules(rules []*h2mv3.Config_Rule) ([]mesh.MetadataRule, error) {
	var out []mesh.MetadataRule
	for _, rule := range rules {
		if err := d.only(rule, "header cookie on_header_present on_header_missing remove", ""); err != nil {
			return nil, err
		}
		r := mesh.MetadataRule{Header: strings.ToLower(rule.GetHeader()), Cookie: rule.GetCookie(), Remove: rule.GetRemove()}
		switch {
		case r.Header == "" && r.Cookie == "":
			return nil, errors.New("rule without a header")
		case r.Header != "" && r.Cookie != "":
			return nil, errors.New("rule for a header and a cookie")
		case r.Cookie != "" && r.Remove:
			return nil, errors.New("removing a cookie is not supported")
		case rule.GetOnHeaderPresent() == nil && rule.GetOnHeaderMissing() == nil:
			return nil, errors.New("rule that does nothing")
		}
		var err error
		if r.Present, err = d.metadataValue(rule.GetOnHeaderPresent()); err != nil {
			return nil, fmt.Errorf("on_header_present: %w", err)
		}
		if r.Missing, err = d.metadataValue(rule.GetOnHeaderMissing()); err != nil {
			return nil, fmt.Errorf("on_header_missing: %w", err)
		}
		if r.Missing != nil {
			if r.Missing.Value == "" {
				return nil, errors.New("on_header_missing without a value")
			}
			r.Missing.Rewrite = nil
		}
		out = append(out, r)
	}
	return out, nil
}

func (d *decoder) metadataValue(kv *h2mv3.Config_KeyValuePair) (*mesh.MetadataValue, error) {
	if kv == nil {
		return nil, nil //nolint:nilnil // nil sets nothing
	}
	if err := d.only(kv, "metadata_namespace key value regex_value_rewrite type encode", ""); err != nil {
		return nil, err
	}
	if kv.GetKey() == "" {
		return nil, errors.New("metadata without a key")
	}
	v := &mesh.MetadataValue{Namespace: namespaceOf(kv), Key: kv.GetKey(), Value: kv.GetValue()}
	switch kv.GetType() {
	case h2mv3.Config_STRING:
	case h2mv3.Config_NUMBER:
		v.Type = mesh.MetadataNumber
	case h2mv3.Config_PROTOBUF_VALUE:
		v.Type = mesh.MetadataProtobuf
	default:
		return nil, fmt.Errorf("metadata of type %s is not supported", kv.GetType())
	}
	switch kv.GetEncode() {
	case h2mv3.Config_NONE:
	case h2mv3.Config_BASE64:
		v.Base64 = true
	default:
		return nil, fmt.Errorf("metadata encoded as %s is not supported", kv.GetEncode())
	}
	if rewrite := kv.GetRegexValueRewrite(); rewrite != nil {
		v.Rewrite = &mesh.RegexRewrite{Pattern: rewrite.GetPattern().GetRegex(), Substitution: rewrite.GetSubstitution()}
		if _, err := match.Rewrite(*v.Rewrite); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func namespaceOf(kv *h2mv3.Config_KeyValuePair) string {
	if ns := kv.GetMetadataNamespace(); ns != "" {
		return ns
	}
	return "envoy.filters.http.header_to_metadata"
}

// metadata reads what an intention asks of metadata.
func (d *decoder) metadata(msg *matcherv3.MetadataMatcher) (*mesh.MetadataMatch, error) {
	m := &mesh.MetadataMatch{Filter: msg.GetFilter(), Invert: msg.GetInvert()}
	if m.Filter == "" || len(msg.GetPath()) == 0 {
		return nil, errors.New("metadata without a filter or a path")
	}
	for _, segment := range msg.GetPath() {
		if _, ok := segment.GetSegment().(*matcherv3.MetadataMatcher_PathSegment_Key); !ok {
			return nil, fmt.Errorf("metadata %s: path of %T is not supported", m.Filter, segment.GetSegment())
		}
		m.Path = append(m.Path, segment.GetKey())
	}
	var err error
	if m.Value, err = valueMatch(msg.GetValue(), 0); err != nil {
		return nil, fmt.Errorf("metadata %s: %w", m.Filter, err)
	}
	return m, nil
}

// maxNested of matchers within matchers, far more than anybody means.
const maxNested = 32

func valueMatch(msg *matcherv3.ValueMatcher, depth int) (m mesh.ValueMatch, err error) {
	if depth > maxNested {
		return m, errors.New("value matchers are nested too deeply")
	}
	switch pattern := msg.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		m.Kind = mesh.ValueNull
	case *matcherv3.ValueMatcher_DoubleMatch:
		return doubleMatch(pattern.DoubleMatch)
	case *matcherv3.ValueMatcher_StringMatch:
		m.String, err = stringMatch(pattern.StringMatch)
	case *matcherv3.ValueMatcher_BoolMatch:
		m.Kind, m.Bool = mesh.ValueBool, pattern.BoolMatch
	case *matcherv3.ValueMatcher_PresentMatch:
		m.Kind, m.Bool = mesh.ValuePresent, pattern.PresentMatch
	case *matcherv3.ValueMatcher_ListMatch:
		one, ok := pattern.ListMatch.GetMatchPattern().(*matcherv3.ListMatcher_OneOf)
		if !ok {
			return m, fmt.Errorf("list matcher %T is not supported", pattern.ListMatch.GetMatchPattern())
		}
		m.Kind, m.Any = mesh.ValueList, make([]mesh.ValueMatch, 1)
		m.Any[0], err = valueMatch(one.OneOf, depth+1)
	case *matcherv3.ValueMatcher_OrMatch:
		m.Kind = mesh.ValueOr
		for _, one := range pattern.OrMatch.GetValueMatchers() {
			value, err := valueMatch(one, depth+1)
			if err != nil {
				return m, err
			}
			m.Any = append(m.Any, value)
		}
		if len(m.Any) < 2 {
			return m, errors.New("or_match of fewer than two")
		}
	default:
		return m, fmt.Errorf("value matcher %T is not supported", pattern)
	}
	return m, err
}

func doubleMatch(msg *matcherv3.DoubleMatcher) (mesh.ValueMatch, error) {
	switch pattern := msg.GetMatchPattern().(type) {
	case *matcherv3.DoubleMatcher_Range:
		return mesh.ValueMatch{Kind: mesh.ValueRange, Low: pattern.Range.GetStart(), High: pattern.Range.GetEnd()}, nil
	case *matcherv3.DoubleMatcher_Exact:
		return mesh.ValueMatch{Kind: mesh.ValueNumber, Low: pattern.Exact}, nil
	default:
		return mesh.ValueMatch{}, fmt.Errorf("double matcher %T is not supported", pattern)
	}
}
