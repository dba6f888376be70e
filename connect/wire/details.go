package wire

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

// ResponseDetails is Envoy's RESPONSE_CODE_DETAILS: Details, or what follows from
// Flag; "" if there is nothing to tell. It allocates only for what went wrong.
func (x *Exchange) ResponseDetails() string {
	started := x.Details == "via_upstream"
	if x.Details != "" && !started {
		return x.Details
	}
	if x.Method == "" { // a connection has no response
		return x.Details
	}
	switch x.Flag {
	case FlagNoRoute:
		return "route_not_found"
	case FlagNoCluster:
		return "cluster_not_found"
	case FlagNoHealthyUpstream:
		return "no_healthy_upstream"
	case FlagUpstreamConnect:
		if n := len(x.Attempts); n > 0 && x.Attempts[n-1].Failure != "" {
			return "upstream_reset_before_response_started{remote_connection_failure|" + x.Attempts[n-1].Failure + "}"
		}
		return "upstream_reset_before_response_started{connection_timeout}"
	case FlagUpstreamReset:
		if started {
			return "upstream_reset_after_response_started{connection_termination}"
		}
		return "upstream_reset_before_response_started{connection_termination}"
	case FlagUpstreamProtocol:
		if started {
			return "upstream_reset_after_response_started{protocol_error}"
		}
		return "upstream_reset_before_response_started{protocol_error}"
	case FlagUpstreamOverflow:
		return "upstream_reset_before_response_started{overflow}"
	case FlagUpstreamTimeout:
		return "response_timeout"
	case FlagStreamIdle:
		return "stream_idle_timeout"
	case FlagDuration:
		return "max_duration_timeout"
	case FlagDownstreamReset:
		return "downstream_remote_disconnect"
	case FlagDownstreamProtocol:
		return "http1.codec_error"
	case FlagNone, FlagRetryLimit, FlagDenied, FlagUnauthenticated, FlagLimited, FlagDraining, FlagInternal, FlagPlugin, flagCount:
	}
	return x.Details
}

// AppendFlags appends Envoy's RESPONSE_FLAGS, or RESPONSE_FLAGS_LONG: "-" if there
// are none. What Envoy has no flag for is none: of what is denied, only what a service
// was asked about has one.
func (x *Exchange) AppendFlags(dst []byte, long bool) []byte {
	name := Flag.String
	if long {
		name = Flag.Long
	}
	flag := x.Flag
	switch {
	case flag == FlagDraining || flag == FlagInternal || flag == FlagPlugin || flag == FlagDuration,
		flag == FlagDenied && x.Method != "" && !strings.HasPrefix(x.Details, "ext_authz_"),
		flag == FlagDenied && strings.HasPrefix(x.Termination, "rbac_"):
		flag = FlagNone
	case flag == FlagUnauthenticated:
		flag = FlagDenied
	}
	switch {
	case !x.Exhausted || flag == FlagRetryLimit:
		return append(dst, name(flag)...)
	case flag == FlagNone:
		return append(dst, name(FlagRetryLimit)...)
	case x.Method == "": // as Envoy has the order for a connection
		dst = append(append(dst, name(flag)...), ',')
		return append(dst, name(FlagRetryLimit)...)
	}
	dst = append(append(dst, name(FlagRetryLimit)...), ',')
	return append(dst, name(flag)...)
}

// WithDetails is a detail as Envoy writes one that has a reason.
func WithDetails(detail, reason string) string { return detail + "{" + underscored(reason) + "}" }

// Fail notes why there is no connection for the try. A wait that ended is no
// failure of the other side.
func (a *Attempt) Fail(err error) {
	var errno syscall.Errno
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
	case errors.As(err, &errno):
		text := errno.Error()
		a.Failure = underscored("delayed connect error: " + strings.ToUpper(text[:1]) + text[1:])
	case strings.Contains(err.Error(), "tls"), strings.Contains(err.Error(), "x509"):
		a.Failure = underscored("TLS error: " + err.Error())
	}
}

// underscored is text as one word.
func underscored(text string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' {
			return '_'
		}
		return r
	}, text)
}
