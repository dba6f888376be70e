package mesh

import (
	"strings"
	"time"
)

// Retry is a retry policy.
type Retry struct {
	On RetryOn
	// Codes are retriable_status_codes.
	Codes []int
	// Headers of a response are retriable_headers, of which one must match;
	// RequestHeaders are those of a request, one of which must match if there are any.
	Headers, RequestHeaders []HeaderMatch
	// Retries after the first try.
	Retries int
	// PerTry limits each try; 0 means only the rule's Timeout does. PerTryIdle
	// limits the wait for the head of a response, too.
	PerTry, PerTryIdle time.Duration
	// BackOff is the pause before the first retry, which doubles up to MaxBackOff;
	// a random part of it is waited. 0 means 25 ms and ten times BackOff.
	BackOff, MaxBackOff time.Duration
	// RateLimited is what an upstream may say about the pause; nil means nothing.
	RateLimited *RateLimitedBackOff
	// PreviousHosts prefers hosts that were not yet tried, and looks for one
	// HostAttempts times; 0 means once.
	PreviousHosts bool
	HostAttempts  int
	// PreviousPriorities leaves priorities out that were tried, and looks anew which
	// these are after so many tries; 0 means that it does not.
	PreviousPriorities int
}

// RateLimitedBackOff is rate_limited_retry_back_off.
type RateLimitedBackOff struct {
	// Headers are tried in order. A pause longer than Max does not count.
	Headers []ResetHeader
	Max     time.Duration
}

// ResetHeader tells how long to wait in seconds, or until when in Unix time.
type ResetHeader struct {
	Name string
	Unix bool
}

// RetryOn is a set of Envoy's retry_on and x-envoy-retry-grpc-on tokens.
type RetryOn uint32

// Tokens, spelt as in [ParseRetryOn].
const (
	Retry5xx RetryOn = 1 << iota
	RetryGatewayError
	RetryReset
	RetryResetBeforeRequest
	RetryConnectFailure
	RetryRateLimited
	RetryRetriable4xx
	RetryRefusedStream
	RetryStatusCodes
	RetryHeaders
	RetryHTTP3
	RetryCancelled
	RetryDeadlineExceeded
	RetryInternal
	RetryResourceExhausted
	RetryUnavailable
)

// RetryGRPC are the tokens that look at the status of gRPC.
const RetryGRPC = RetryCancelled | RetryDeadlineExceeded | RetryInternal | RetryResourceExhausted | RetryUnavailable

// ParseRetryOn reads tokens that are separated by commas. Those that nobody knows
// are left out, as Envoy does, and returned.
func ParseRetryOn(text string) (on RetryOn, unknown []string) {
	for token := range strings.SplitSeq(text, ",") {
		token = strings.TrimSpace(token)
		if token == "" {
			continue
		}
		one := retryOn(token)
		if one == 0 {
			unknown = append(unknown, token)
		}
		on |= one
	}
	return on, unknown
}

func retryOn(token string) RetryOn {
	switch token {
	case "5xx":
		return Retry5xx
	case "gateway-error":
		return RetryGatewayError
	case "reset":
		return RetryReset
	case "reset-before-request":
		return RetryResetBeforeRequest
	case "connect-failure":
		return RetryConnectFailure
	case "envoy-ratelimited":
		return RetryRateLimited
	case "retriable-4xx":
		return RetryRetriable4xx
	case "refused-stream":
		return RetryRefusedStream
	case "retriable-status-codes":
		return RetryStatusCodes
	case "retriable-headers":
		return RetryHeaders
	case "http3-post-connect-failure":
		return RetryHTTP3
	case "cancelled":
		return RetryCancelled
	case "deadline-exceeded":
		return RetryDeadlineExceeded
	case "internal":
		return RetryInternal
	case "resource-exhausted":
		return RetryResourceExhausted
	case "unavailable":
		return RetryUnavailable
	}
	return 0
}
