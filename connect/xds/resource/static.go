package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

// FromJSON makes of a resource in JSON, as it stands in a bootstrap file, the
// bytes that the control plane would send for it, and its name. typ is one of
// the type URLs of this package. Names may be in either spelling, and a list of
// one may be written without brackets, as Envoy's own reader has it.
//
// An error says what is not understood; the name is then given as far as it can
// be seen.
func FromJSON(typ string, text []byte) (name string, body []byte, err error) {
	var msg proto.Message
	switch typ {
	case ListenerType:
		msg = &listenerv3.Listener{}
	case ClusterType:
		msg = &clusterv3.Cluster{}
	case SecretType:
		msg = &tlsv3.Secret{}
	default:
		return "", nil, fmt.Errorf("type %q cannot be static", typ)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return "", nil, fmt.Errorf("not JSON: %w", err)
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return "", nil, errors.New("not a JSON object")
	}
	name, _ = fields["name"].(string)
	listed(fields, msg.ProtoReflect().Descriptor(), 0)
	plain, err := json.Marshal(fields)
	if err != nil {
		return name, nil, fmt.Errorf("not JSON: %w", err)
	}
	if err := protojson.Unmarshal(plain, msg); err != nil {
		return name, nil, errors.New(told(err))
	}
	if name == "" {
		return name, nil, errors.New("no name")
	}
	body, err = proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	return name, body, err
}

// told is protojson's error, which has a space of one kind or another in it so
// that nobody depends on its text.
func told(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimPrefix(text, "proto: ")
}

// maxDepth bounds how deep a tree is walked; protojson refuses what is deeper
// than 10000.
const maxDepth = 200

// listed puts a value of a repeated field that stands alone into a list.
func listed(tree map[string]any, message protoreflect.MessageDescriptor, depth int) {
	if depth > maxDepth {
		return
	}
	if message.FullName() == "google.protobuf.Any" {
		// What is in it stands beside its type, but for well-known types.
		typ, _ := tree["@type"].(string)
		inner, err := protoregistry.GlobalTypes.FindMessageByURL(typ)
		if err != nil || strings.HasPrefix(string(inner.Descriptor().FullName()), "google.protobuf.") {
			return
		}
		message = inner.Descriptor()
	}
	for key, value := range tree {
		field := message.Fields().ByName(protoreflect.Name(key))
		if field == nil {
			field = message.Fields().ByJSONName(key)
		}
		if field == nil || value == nil {
			continue
		}
		if field.IsList() {
			if _, ok := value.([]any); !ok {
				value = []any{value}
				tree[key] = value
			}
		}
		inside(value, field, depth)
	}
}

// inside goes into the messages of a field.
func inside(value any, field protoreflect.FieldDescriptor, depth int) {
	message := field.Message()
	if field.IsMap() {
		message = field.MapValue().Message()
	}
	if message == nil || (message.FullName() != "google.protobuf.Any" && strings.HasPrefix(string(message.FullName()), "google.protobuf.")) {
		return
	}
	switch node := value.(type) {
	case []any:
		for _, child := range node {
			if tree, ok := child.(map[string]any); ok {
				listed(tree, message, depth+1)
			}
		}
	case map[string]any:
		if !field.IsMap() {
			listed(node, message, depth+1)
			return
		}
		for _, child := range node {
			if tree, ok := child.(map[string]any); ok {
				listed(tree, message, depth+1)
			}
		}
	}
}

// ToJSON is a resource as Envoy shows it: with the names of the protocol, and
// with its type.
func ToJSON(typ string, body []byte) (map[string]any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&anypb.Any{TypeUrl: typ, Value: body})
	if err != nil {
		return nil, errors.New(told(err))
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree map[string]any
	if err := decoder.Decode(&tree); err != nil {
		return nil, err
	}
	return tree, nil
}
