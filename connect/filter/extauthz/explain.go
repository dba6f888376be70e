package extauthz

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Question is what a service would be asked about a request, without its body, in JSON: the
// CheckRequest of gRPC, or the request of HTTP. Nobody is asked.
func Question(c *mesh.ExtAuthz, place Place, x *wire.Exchange, req *wire.Request) (string, error) {
	f, err := compile(c, place)
	if err != nil {
		return "", err
	}
	var text []byte
	if f.http == nil {
		text, err = protojson.Marshal(f.question(x, req, shown{}))
	} else {
		r := f.likeness(x, req, shown{})
		header := map[string]string{}
		for name := range r.Header.All() {
			header[name] = r.Header.Joined(name)
		}
		text, err = json.Marshal(map[string]any{"method": r.Method, "authority": r.Authority, "path": r.Path, "header": header})
	}
	if err != nil {
		return "", fmt.Errorf("ext_authz: tell the question: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil { // spaces of protojson are by chance
		return "", fmt.Errorf("ext_authz: tell the question: %w", err)
	}
	return out.String(), nil
}
