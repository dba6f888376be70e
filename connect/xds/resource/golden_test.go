package resource_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// goldens is the directory of Consul's golden files in the module cache. They
// come with `go -C integration/tools/consul mod download` and are not copied.
func goldens(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skipf("SKIPPED %s: go env GOMODCACHE: %v", t.Name(), err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "github.com/hashicorp/consul@v1.22.5/agent/xds/testdata")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED %s: Consul's golden files are not there (make tools fetches them): %v", t.Name(), err)
	}
	return dir
}

// lenient lets golden files name types that are not linked in.
type lenient struct{ *protoregistry.Types }

func (l lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if typ, err := l.Types.FindMessageByURL(url); err == nil {
		return typ, nil
	}
	return (&listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{}).ProtoReflect().Type(), nil
}

func unmarshal(tb testing.TB, file string, data []byte, into proto.Message) {
	tb.Helper()
	options := protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: lenient{protoregistry.GlobalTypes}}
	if err := options.Unmarshal(data, into); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
}
