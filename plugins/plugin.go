package plugins

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/serai-net/serai/plugins/internal/handshake"
)

// ProtocolVersion is that of the protocol between Serai and its plugins. A
// plugin that was built with another one is refused when it starts.
const ProtocolVersion = handshake.Version

// Authenticator finds out who calls. It is safe for concurrent use.
type Authenticator interface {
	// Authenticate returns who calls. A request that does not prove it gets a
	// [Refusal] of 401; any other error is a failure of the plugin, for which the
	// use has its fail mode.
	Authenticate(ctx context.Context, r *Request) (*Identity, error)
}

// Transformer changes requests and responses. It is safe for concurrent use. A
// [Refusal] answers the client, any other error is a failure of the plugin.
type Transformer interface {
	// TransformRequest is called before the request goes upstream. Nil is no
	// change.
	TransformRequest(ctx context.Context, r *Request) (*RequestChange, error)
	// TransformResponse is called when the response's head is there. The request
	// is as TransformRequest had it, without its body. Nil is no change.
	TransformResponse(ctx context.Context, r *Request, resp *Response) (*ResponseChange, error)
}

// Refusal is the error that answers the client, on purpose.
type Refusal struct { //nolint:errname // it is an answer, which travels as an error
	// Status is 400 to 599.
	Status int
	// Text for the client, at most 4 KiB.
	Text string
	// Header of the answer, for example www-authenticate.
	Header []Field
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("refused with %d: %s", r.Status, r.Text) }

// Plugin is what a binary serves.
type Plugin struct {
	// Name and Version are shown in the log of Serai.
	Name, Version string
	// New is called once for each use with its settings, which are as
	// encoding/json would decode them; nil if there are none. An error is shown
	// to the operator as one of the configuration, and should say what would be
	// right. What it returns is an [Authenticator], a [Transformer] or both, and
	// is closed when the use ends if it is an io.Closer.
	New func(settings map[string]any, log *slog.Logger) (any, error)
}
