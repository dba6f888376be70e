package jwt

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// algorithms that are verified: those of Envoy, and never "none".
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.HS256, jose.HS384, jose.HS512, jose.EdDSA,
	}
}

// token is a parsed JSON Web Token (RFC 7519) in its compact form. Nothing in it
// is believed before its signature was verified. It does not change.
type token struct {
	text            string // the whole
	payload64       string // its second part as it came
	header, payload map[string]any
	alg, kid        string
	issuer, subject string
	audiences       []string
	notBefore       time.Time // zero if there is none
	expires         time.Time // zero if there is none
}

// parse reads a token, in the order in which Envoy does, so that of several
// problems it finds the same.
func parse(text string) (*token, error) {
	if strings.Count(text, ".") != 2 {
		return nil, errFormat
	}
	parts := strings.Split(text, ".")
	if slices.Contains(parts, "") {
		return nil, errFormat
	}
	t := &token{text: text, payload64: parts[1]}
	if err := t.readHeader(parts[0]); err != nil {
		return nil, err
	}
	if err := t.readPayload(parts[1]); err != nil {
		return nil, err
	}
	if _, err := decode(parts[2]); err != nil {
		return nil, errSignature64
	}
	return t, nil
}

func decode(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") { // which package base64 skips
		return nil, errFormat
	}
	return base64.RawURLEncoding.DecodeString(part)
}

func object(bytes []byte) (map[string]any, bool) {
	var fields map[string]any
	err := json.Unmarshal(bytes, &fields)
	return fields, err == nil && fields != nil
}

func (t *token) readHeader(part string) error {
	bytes, err := decode(part)
	if err != nil {
		return errHeaderBase64
	}
	ok := false
	if t.header, ok = object(bytes); !ok {
		return errHeaderJSON
	}
	if t.alg, ok = t.header["alg"].(string); !ok {
		return errHeaderAlg
	}
	if !slices.Contains(algorithms(), jose.SignatureAlgorithm(t.alg)) {
		return errAlg
	}
	if t.kid, ok = stringOf(t.header, "kid"); !ok {
		return errHeaderKid
	}
	return nil
}

func (t *token) readPayload(part string) error {
	bytes, err := decode(part)
	if err != nil {
		return errPayloadBase64
	}
	ok := false
	if t.payload, ok = object(bytes); !ok {
		return errPayloadJSON
	}
	if t.issuer, ok = stringOf(t.payload, "iss"); !ok {
		return errIss
	}
	if t.subject, ok = stringOf(t.payload, "sub"); !ok {
		return errSub
	}
	if _, err := timeOf(t.payload, "iat", errIat, errIatRange); err != nil {
		return err
	}
	if t.notBefore, err = timeOf(t.payload, "nbf", errNbf, errNbfRange); err != nil {
		return err
	}
	if t.expires, err = timeOf(t.payload, "exp", errExp, errExpRange); err != nil {
		return err
	}
	if _, ok := stringOf(t.payload, "jti"); !ok {
		return errJti
	}
	if aud, there := t.payload["aud"]; there {
		if t.audiences, ok = listOf(aud); !ok {
			return errAud
		}
	}
	return nil
}

// stringOf is "" for a field that is not there.
func stringOf(fields map[string]any, name string) (string, bool) {
	value, there := fields[name]
	text, ok := value.(string)
	return text, ok || !there
}

// timeOf reads seconds since 1970; 0, and a field that is not there, are no time.
func timeOf(fields map[string]any, name string, noNumber, outOfRange problem) (time.Time, error) {
	value, there := fields[name]
	if !there {
		return time.Time{}, nil
	}
	seconds, ok := value.(float64)
	switch {
	case !ok:
		return time.Time{}, noNumber
	case seconds < 0 || seconds >= math.MaxUint64:
		return time.Time{}, outOfRange
	case seconds < 1:
		return time.Time{}, nil
	}
	// Past this year nothing expires.
	const farAway = 1 << 40
	return time.Unix(int64(min(seconds, farAway)), 0), nil
}

// listOf reads a string or a list of strings.
func listOf(value any) (list []string, ok bool) {
	switch value := value.(type) {
	case string:
		return []string{value}, true
	case []any:
		for _, one := range value {
			text, ok := one.(string)
			if !ok {
				return nil, false
			}
			list = append(list, text)
		}
		return list, true
	default:
		return nil, false
	}
}

// checkTime follows Envoy: seconds, the skew forgiven on both ends.
func (t *token) checkTime(now time.Time, skew time.Duration) error {
	if !t.notBefore.IsZero() && now.Add(skew).Unix() < t.notBefore.Unix() {
		return errNotYet
	}
	if !t.expires.IsZero() && now.Unix() > t.expires.Add(skew).Unix() {
		return errExpired
	}
	return nil
}

// claim finds a value of the payload by its path, steps separated by dots.
func (t *token) claim(path string) (any, bool) {
	fields := t.payload
	for {
		step, rest, more := strings.Cut(path, ".")
		value, ok := fields[step]
		if !ok || !more {
			return value, ok
		}
		if fields, ok = value.(map[string]any); !ok {
			return nil, false
		}
		path = rest
	}
}

// clone is a token to be kept for longer than the request that brought it. Its
// payload is shared: nobody changes it.
func (t *token) clone() *token {
	c := *t
	c.text = strings.Clone(t.text)
	_, rest, _ := strings.Cut(c.text, ".")
	c.payload64, _, _ = strings.Cut(rest, ".")
	return &c
}
