package dns

import "context"

// zone answers for all names at and below its origin. It is safe for concurrent
// use.
type zone interface {
	// answer returns the reply, never nil. It may wait for somebody else's
	// answer until ctx ends, which has the server's deadline.
	answer(ctx context.Context, q *question) *reply
}
