package mtls

import (
	"crypto/tls"
	"errors"
	"maps"
	"strings"
	"sync"

	"github.com/serai-net/serai/connect/stats"
)

// Failure is why a peer was not believed.
type Failure uint8

// Failures. FailureOther is none of the peer's certificate: no common version, an
// alert of the other side, a connection that broke.
const (
	FailureOther Failure = iota
	FailureNoCertificate
	// FailureChain is a certificate that none of ours has signed, or of a trust domain
	// that is not known; FailureName one that is another's, FailurePin one that is not
	// among those named by their hash.
	FailureChain
	FailureName
	FailurePin
)

// failure is an error of one kind; its text is that of its cause.
type failure struct {
	kind Failure
	error
}

func (f *failure) Unwrap() error { return f.error }

// because makes err a failure of this kind; nil stays nil.
func because(kind Failure, err error) error {
	if err == nil {
		return nil
	}
	return &failure{kind, err}
}

// FailureOf tells why a handshake failed, which one of our configurations was used for.
func FailureOf(err error) Failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.kind
	}
	// crypto/tls has no name for it, and answers it with an alert of its own.
	if err != nil && strings.HasSuffix(err.Error(), "client didn't provide a certificate") {
		return FailureNoCertificate
	}
	return FailureOther
}

// Handshakes counts handshakes of TLS. The zero value is ready for use, by any
// goroutine.
type Handshakes struct {
	good, resumed, anonymous stats.Counter
	bad                      stats.Counter
	failures                 [FailurePin + 1]stats.Counter

	mu sync.Mutex // guards:
	// agreed counts what handshakes have agreed on, by Envoy's names. These are few,
	// since crypto/tls knows few.
	agreed map[string]int64
}

// Succeeded counts a handshake that was good.
func (h *Handshakes) Succeeded(state *tls.ConnectionState) {
	h.good.Add(1)
	if state.DidResume {
		h.resumed.Add(1)
	}
	if len(state.PeerCertificates) == 0 {
		h.anonymous.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agreed == nil {
		h.agreed = map[string]int64{}
	}
	for _, name := range agreement(state) {
		if name != "" {
			h.agreed[name]++
		}
	}
}

// Failed counts one that was not.
func (h *Handshakes) Failed(err error) {
	h.bad.Add(1)
	h.failures[FailureOf(err)].Add(1)
}

// Add adds what another has counted.
func (h *Handshakes) Add(other *Handshakes) {
	h.good.Add(other.good.Load())
	h.resumed.Add(other.resumed.Load())
	h.anonymous.Add(other.anonymous.Load())
	h.bad.Add(other.bad.Load())
	for i := range h.failures {
		h.failures[i].Add(other.failures[i].Load())
	}
	other.mu.Lock()
	agreed := maps.Clone(other.agreed)
	other.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agreed == nil {
		h.agreed = map[string]int64{}
	}
	for name, n := range agreed {
		h.agreed[name] += n
	}
}

// Each yields what was counted by Envoy's names, and tells whether to go on.
func (h *Handshakes) Each(yield func(stats.Stat) bool) (more bool) {
	for _, one := range [...]struct {
		name string
		*stats.Counter
	}{
		{"ssl.handshake", &h.good},
		{"ssl.session_reused", &h.resumed},
		{"ssl.no_certificate", &h.anonymous},
		{"ssl.connection_error", &h.bad},
		{"ssl.fail_verify_no_cert", &h.failures[FailureNoCertificate]},
		{"ssl.fail_verify_error", &h.failures[FailureChain]},
		{"ssl.fail_verify_san", &h.failures[FailureName]},
		{"ssl.fail_verify_cert_hash", &h.failures[FailurePin]},
	} {
		if !yield(stats.Stat{Name: one.name, Value: one.Load()}) {
			return false
		}
	}
	h.mu.Lock()
	agreed := maps.Clone(h.agreed)
	h.mu.Unlock()
	for name, n := range agreed {
		if !yield(stats.Stat{Name: name, Value: n}) {
			return false
		}
	}
	return stats.Zeros("", neverTLS, yield)
}

// neverTLS are Envoy's counters for what does not happen here: nothing is stapled.
const neverTLS = "ssl.ocsp_staple_failed ssl.ocsp_staple_omitted ssl.ocsp_staple_requests ssl.ocsp_staple_responses ssl.was_key_usage_invalid"
