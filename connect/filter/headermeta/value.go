package headermeta

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// value is a compiled [mesh.MetadataValue].
type value struct {
	namespace, key, text string
	rewrite              *match.Rewriter
	kind                 mesh.MetadataType
	base64               bool
	// shared reads it, as number at; nil if it is read by itself.
	shared *readings
	at     int
}

// lasting tells whether metadata of it may be given to many.
func (v *value) lasting() bool { return v.kind != mesh.MetadataProtobuf }

func compileValue(in *mesh.MetadataValue) (*value, error) {
	if in == nil {
		return nil, nil //nolint:nilnil // nil sets nothing
	}
	v := &value{namespace: in.Namespace, key: in.Key, text: in.Value, kind: in.Type, base64: in.Base64}
	if in.Type > mesh.MetadataProtobuf {
		return nil, fmt.Errorf("metadata %s of unknown type %d", in.Key, in.Type)
	}
	if in.Rewrite != nil {
		var err error
		if v.rewrite, err = match.Rewrite(*in.Rewrite); err != nil {
			return nil, fmt.Errorf("metadata %s: %w", in.Key, err)
		}
	}
	return v, nil
}

// of reads what was found, or what is set in its place. It reports false if there
// is nothing to set.
func (v *value) of(found string) (any, bool) {
	switch {
	case v.text != "":
		found = v.text
	case v.shared != nil:
		return v.shared.of(v.at, found)
	case v.rewrite != nil:
		found = v.rewrite.Replace(found)
	}
	return v.read(found)
}

// read makes metadata of what was found and rewritten.
func (v *value) read(found string) (any, bool) {
	if found == "" || len(found) >= maxValue {
		return nil, false
	}
	if v.base64 {
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(found, "="))
		if err != nil || len(decoded) == 0 {
			return nil, false
		}
		found = string(decoded)
	}
	switch v.kind {
	case mesh.MetadataNumber:
		return number(strings.TrimSpace(found))
	case mesh.MetadataProtobuf:
		return message(found)
	default:
		return found, true
	}
}

// number reads decimal and hexadecimal numbers as C does, which wants no exponent
// and knows no underscores.
func number(text string) (any, bool) {
	if strings.Contains(text, "_") {
		return nil, false
	}
	if strings.ContainsAny(text, "xX") && !strings.ContainsAny(text, "pP") {
		text += "p0"
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil || errors.Is(err, strconv.ErrRange) // out of range it is infinite, or 0
}

func message(bytes string) (any, bool) {
	m := &structpb.Value{}
	if err := proto.Unmarshal([]byte(bytes), m); err != nil || m.GetKind() == nil {
		return nil, false
	}
	return m.AsInterface(), true
}
