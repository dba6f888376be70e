// Command hmac-auth is a plugin that authenticates signed requests: HTTP Message
// Signatures (RFC 9421) with hmac-sha256. See README.md.
package main

import (
	"log/slog"
	"time"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/bundled/hmac-auth/internal/signature"
)

const version = "1.0.0"

func main() {
	// What a process before us has seen is not known, so that a signature counts
	// only if it was created after its end. They tell whole seconds: ours begins.
	begin := time.Now().Truncate(time.Second).Add(time.Second)
	<-time.After(time.Until(begin))
	nonces := signature.NewNonces(begin)
	plugins.Serve(plugins.Plugin{
		Name: "hmac-auth", Version: version,
		New: func(settings map[string]any, log *slog.Logger) (any, error) {
			return signature.New(settings, nonces, time.Now, log)
		},
	})
}
