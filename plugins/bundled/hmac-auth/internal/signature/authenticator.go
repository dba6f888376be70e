package signature

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/plugins"
)

// tellEvery is how often the operator is told of refusals that are not the
// client's fault, in seconds.
const tellEvery = 10

// Authenticator finds the consumer whose key has signed a request. It is safe for
// concurrent use.
type Authenticator struct {
	// set by New
	settings *settings
	nonces   *Nonces
	now      func() time.Time
	log      *slog.Logger
	// nobody is the key of those whose key ID is not known, so that it takes as
	// long to refuse them as to refuse a wrong signature.
	nobody []byte

	told atomic.Int64 // Unix time in seconds
}

var _ plugins.Authenticator = (*Authenticator)(nil)

// New makes the Authenticator of one use; its error is all that is wrong in the
// settings.
func New(from map[string]any, nonces *Nonces, now func() time.Time, log *slog.Logger) (*Authenticator, error) {
	s, err := parseSettings(from)
	if err != nil {
		return nil, err
	}
	nonces.allow(int64(s.skew/time.Second), now().Unix())
	nobody := make([]byte, sha256.Size)
	_, _ = rand.Read(nobody) // never fails
	return &Authenticator{settings: s, nonces: nonces, now: now, log: log, nobody: nobody}, nil
}

// Reasons for which a signature is not taken.
var (
	errMismatch = errors.New("the signature does not match")
	errNoNonce  = errors.New("the signature needs the parameter nonce: a string that is new for each request")
	errExpired  = errors.New("the signature has expired")
	errNotGiven = errors.New("requests with a body are not taken here")
)

// Authenticate implements plugins.Authenticator.
func (a *Authenticator) Authenticate(_ context.Context, r *plugins.Request) (*plugins.Identity, error) {
	consumer, err := a.verify(r)
	if err != nil {
		a.log.Debug("request refused", "id", r.ID, "client", r.Client, "reason", err)
		return nil, a.refusal(r, err)
	}
	identity := &plugins.Identity{Consumer: consumer}
	if !a.settings.forward {
		identity.Remove = []string{"signature", "signature-input"}
	}
	return identity, nil
}

// verify returns the consumer, or why there is none. What is remembered comes
// last, so that only what is right in all else takes memory.
func (a *Authenticator) verify(r *plugins.Request) (consumer string, err error) {
	m, err := parse(r, a.settings.keys)
	if err != nil {
		return "", err
	}
	now := a.now().Unix()
	if err := a.checkTimes(m, now); err != nil {
		return "", err
	}
	if err := a.checkCoverage(m, r); err != nil {
		return "", err
	}
	base, err := m.base(r)
	if err != nil {
		return "", err
	}
	k, known := a.settings.keys[m.keyID]
	if !known {
		k.secret = a.nobody
	}
	mac := hmac.New(sha256.New, k.secret)
	mac.Write(base)
	if right := hmac.Equal(mac.Sum(nil), m.mac); !right || !known {
		return "", errMismatch
	}
	if m.covers("content-digest") && (len(r.Body) > 0 || !hasBody(r)) {
		if err := checkDigest(r); err != nil {
			return "", err
		}
	}
	if m.nonce != "" {
		if err := a.nonces.use(m.keyID, m.nonce, m.created, now, a.settings.maxNonces); err != nil {
			return "", err
		}
	}
	return k.consumer, nil
}

// checkTimes takes what was made not long ago and does not repeat.
func (a *Authenticator) checkTimes(m *message, now int64) error {
	skew := int64(a.settings.skew / time.Second)
	switch off := now - m.created; {
	case off > skew:
		return fmt.Errorf("the signature was created %d s ago, at most %d s are allowed: look at the clock", off, skew)
	case off < -skew:
		return fmt.Errorf("the signature was created %d s ahead of our clock, at most %d s are allowed: look at the clock", -off, skew)
	case m.hasExpires && m.expires <= now:
		return errExpired
	case m.nonce == "" && a.settings.requireNonce:
		return errNoNonce
	default:
		return nil
	}
}

// checkCoverage takes signatures that say enough of the request.
func (a *Authenticator) checkCoverage(m *message, r *plugins.Request) error {
	for _, name := range a.settings.required {
		if name == "@query" && !strings.Contains(r.Path, "?") {
			continue
		}
		if !m.covers(name) {
			return fmt.Errorf("the signature must cover %q", name)
		}
	}
	switch {
	case a.settings.unsignedBody || !hasBody(r):
		return nil
	case len(r.Body) == 0:
		return errNotGiven
	case !m.covers("content-digest"):
		return errDigestNone
	default:
		return nil
	}
}

// refusal is what the client is told; the operator is told of what only he can
// change.
func (a *Authenticator) refusal(r *plugins.Request, reason error) *plugins.Refusal {
	switch {
	case errors.Is(reason, errFull):
		if a.mayTell() {
			a.log.Warn("signed requests refused, the memory for nonces of a key is full: raise max_nonces or lower clock_skew",
				"refused", a.nonces.Refused())
		}
		return &plugins.Refusal{
			Status: http.StatusTooManyRequests, Text: reason.Error(),
			Header: []plugins.Field{{Name: "retry-after", Value: "1"}},
		}
	case errors.Is(reason, errNotGiven):
		if a.mayTell() {
			a.log.Warn("signed requests with a body refused, this plugin is not given bodies: set max_body in its block")
		}
		return &plugins.Refusal{Status: http.StatusRequestEntityTooLarge, Text: reason.Error()}
	default:
		return &plugins.Refusal{Status: http.StatusUnauthorized, Text: reason.Error(), Header: []plugins.Field{
			{Name: "www-authenticate", Value: `Signature realm="` + quotable(r.API) + `"`},
			{Name: "accept-signature", Value: a.settings.accepted(hasBody(r))},
		}}
	}
}

// mayTell bounds how often warnings are written.
func (a *Authenticator) mayTell() bool {
	now, last := a.now().Unix(), a.told.Load()
	return now-last >= tellEvery && a.told.CompareAndSwap(last, now)
}

// accepted is Accept-Signature (RFC 9421 section 5.1): how to sign.
func (s *settings) accepted(body bool) string {
	names := s.required
	if body && !s.unsignedBody {
		names = append(slices.Clip(names), "content-digest")
	}
	return `sig1=("` + strings.Join(names, `" "`) + `");created;keyid;alg="hmac-sha256"`
}

// quotable makes text fit between quotes in a field.
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		if notPrintable(r) || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, text)
}
