package mesh

import "strings"

// String is the tokens of the set, as ParseRetryOn reads them.
func (on RetryOn) String() string {
	var all []string
	for _, token := range []string{
		"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx", "refused-stream",
		"retriable-status-codes", "retriable-headers", "http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal",
		"resource-exhausted", "unavailable",
	} {
		if on&retryOn(token) != 0 {
			all = append(all, token)
		}
	}
	return strings.Join(all, ",")
}
