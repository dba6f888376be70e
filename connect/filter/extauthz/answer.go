package extauthz

import (
	"fmt"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// read is the answer of a service of gRPC as a verdict. An answer without a
// status is a consent, since that is what the protocol's zero stands for.
func read(resp *authv3.CheckResponse) (*verdict, error) {
	v := &verdict{allowed: resp.GetStatus().GetCode() == 0, status: http.StatusForbidden}
	metadata := resp.GetDynamicMetadata()
	if old := resp.GetOkResponse().GetDynamicMetadata(); old != nil {
		metadata = old
	}
	v.metadata = metadata.AsMap()
	if !v.allowed {
		denied := resp.GetDeniedResponse()
		if code := int(denied.GetStatus().GetCode()); code > 0 {
			v.status = code
		}
		v.body = []byte(denied.GetBody())
		for _, h := range denied.GetHeaders() {
			if !h.GetAppend().GetValue() {
				v.denial = append(v.denial, field(h))
			}
		}
		return v, nil
	}
	ok := resp.GetOkResponse()
	for _, h := range ok.GetHeaders() {
		if h.GetAppend().GetValue() {
			v.join = append(v.join, field(h))
		} else {
			v.set = append(v.set, field(h))
		}
	}
	v.remove = ok.GetHeadersToRemove()
	for _, h := range ok.GetResponseHeadersToAdd() {
		action, err := appendAction(h)
		if err != nil {
			return nil, err
		}
		f := field(h)
		v.response = append(v.response, mesh.HeaderValue{Name: f.Name, Value: f.Value, Append: action})
	}
	for _, p := range ok.GetQueryParametersToSet() {
		v.querySet = append(v.querySet, wire.Field{Name: p.GetKey(), Value: p.GetValue()})
	}
	v.queryRemove = ok.GetQueryParametersToRemove()
	return v, nil
}

func field(h *corev3.HeaderValueOption) wire.Field {
	value := h.GetHeader().GetValue()
	if raw := h.GetHeader().GetRawValue(); len(raw) > 0 {
		value = string(raw)
	}
	// Space around a value is no part of it (RFC 9110 section 5.5).
	return wire.Field{Name: strings.ToLower(h.GetHeader().GetKey()), Value: strings.Trim(value, " \t")}
}

func appendAction(h *corev3.HeaderValueOption) (mesh.EditAction, error) {
	if old := h.GetAppend(); old != nil {
		if old.GetValue() {
			return mesh.AppendOrAdd, nil
		}
		return mesh.OverwriteOrAdd, nil
	}
	switch action := h.GetAppendAction(); action {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		return mesh.AppendOrAdd, nil
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		return mesh.AddIfAbsent, nil
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		return mesh.OverwriteOrAdd, nil
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		return mesh.OverwriteIfExists, nil
	default:
		return 0, fmt.Errorf("the answer has an append_action %d", action)
	}
}
