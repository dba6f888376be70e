package signature

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"

	"github.com/dunglas/httpsfv"

	"github.com/serai-net/serai/plugins"
)

// Reasons for which a body is not taken.
var (
	errDigestForm  = errors.New("the field Content-Digest is malformed (RFC 9530 section 2)")
	errDigestKind  = errors.New("the field Content-Digest has neither sha-256 nor sha-512")
	errDigestValue = errors.New("the body is not what Content-Digest says")
	errDigestNone  = errors.New(`the signature must cover "content-digest", as there is a body`)
)

// checkDigest compares the body with Content-Digest (RFC 9530 section 2): every
// digest of a kind that we know must be right, and there must be one.
func checkDigest(r *plugins.Request) error {
	values := valuesOf(r, "content-digest")
	if size(values) > maxInput {
		return errDigestForm
	}
	digests, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return errDigestForm
	}
	known := 0
	for _, kind := range digests.Names() {
		var sum []byte
		switch kind {
		case "sha-256":
			all := sha256.Sum256(r.Body)
			sum = all[:]
		case "sha-512":
			all := sha512.Sum512(r.Body)
			sum = all[:]
		default:
			continue
		}
		member, _ := digests.Get(kind)
		item, isItem := member.(httpsfv.Item)
		if !isItem {
			return errDigestForm
		}
		claimed, isBytes := item.Value.([]byte)
		if !isBytes {
			return errDigestForm
		}
		if subtle.ConstantTimeCompare(claimed, sum) != 1 {
			return errDigestValue
		}
		known++
	}
	if known == 0 {
		return errDigestKind
	}
	return nil
}

// hasBody tells whether the request has a body, be it given to us or not.
func hasBody(r *plugins.Request) bool {
	length := r.Get("content-length")
	return len(r.Body) > 0 || length != "" && length != "0" || r.Get("transfer-encoding") != ""
}
