package ads

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind says what may help against an error.
type Kind uint8

// Kinds of error.
const (
	// Unreachable: nothing listens at the address.
	Unreachable Kind = iota
	// Unavailable: the control plane is there and does not serve us now.
	Unavailable
	// Ended: the stream has ended, as in a restart or to spread load.
	Ended
	// Denied: the token is not good enough.
	Denied
	// Rejected: the control plane does not take our request.
	Rejected
)

// Error is why there is no stream. Its text says what to do.
type Error struct {
	Kind Kind
	// Connected says that a stream was open before.
	Connected bool
	// Err is the cause.
	Err  error
	text string
}

// Error tells what is wrong and what to do.
func (e *Error) Error() string { return e.text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// classify tells what an error of grpc means here; dial is why a connection
// could not be made, nil if there was one.
func (c *Client) classify(err, dial error, connected bool) *Error {
	e := &Error{Err: err, Connected: connected}
	server := c.config.Target.String()
	if dial != nil {
		e.Kind, e.Err = Unreachable, dial
		e.text = fmt.Sprintf("Consul not reachable at %s: is the agent running and its grpc port open? (%v)", server, dial)
		return e
	}
	if errors.Is(err, io.EOF) {
		e.Kind = Ended
		e.text = "the xDS stream of Consul at " + server + " has ended"
		return e
	}
	reason := status.Convert(err).Message()
	code := status.Code(err)
	if strings.Contains(reason, "ACL system must be bootstrapped") {
		code, connected = codes.Unavailable, false // an agent that has just started, before it has a leader
	}
	switch code {
	case codes.PermissionDenied, codes.Unauthenticated:
		e.Kind = Denied
		e.text = fmt.Sprintf("token denied by Consul at %s: it needs service:write on %q (%s)", server, c.config.Node.Cluster, reason)
		if c.config.Token == "" {
			e.text = fmt.Sprintf("Consul at %s wants a token, and none is given: it needs service:write on %q (%s)", server, c.config.Node.Cluster, reason)
		}
	case codes.InvalidArgument, codes.Unimplemented:
		e.Kind = Rejected
		e.text = fmt.Sprintf("Consul at %s does not take proxy %q: %s", server, c.config.Node.ID, reason)
	case codes.ResourceExhausted:
		e.Kind = Unavailable
		e.text = fmt.Sprintf("Consul at %s has too many xDS streams: %s", server, reason)
	case codes.Unavailable:
		if connected {
			e.text = fmt.Sprintf("the xDS stream of Consul at %s has ended: %s", server, reason)
			e.Kind = Ended
			break
		}
		e.Kind = Unavailable
		e.text = fmt.Sprintf("Consul at %s is not available: is the agent running, and does its grpc port speak %s? (%s)", server, c.transport(), reason)
	default:
		e.Kind = Ended
		e.text = fmt.Sprintf("the xDS stream of Consul at %s has ended: %s", server, reason)
	}
	return e
}

func (c *Client) transport() string {
	if c.config.TLS != nil {
		return "TLS"
	}
	return "plain text"
}
