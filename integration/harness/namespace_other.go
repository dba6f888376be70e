//go:build unix && !linux

package harness

import (
	"context"
	"errors"
	"net"
)

// Namespace makes a namespace. Where that is not possible the test is skipped, loudly.
func (e *Env) Namespace(context.Context) (*Namespace, error) {
	return nil, e.skip("network namespaces need Linux")
}

func (n *Namespace) dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (n *Namespace) listen(context.Context, string, string) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}
