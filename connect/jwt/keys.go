package jwt

import (
	"encoding/json"

	jose "github.com/go-jose/go-jose/v4"
)

// maxKeys bounds a key set.
const maxKeys = 256

// keySet is a JWKS (RFC 7517). It does not change, so that what was verified by it
// is known by its pointer.
type keySet struct {
	keys []jose.JSONWebKey
}

// parseKeys takes the public part of every key that is understood. A set without
// any is no set.
func parseKeys(text []byte) (*keySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &raw); err != nil || len(raw.Keys) > maxKeys {
		return nil, errNoKeys
	}
	set := &keySet{}
	for _, one := range raw.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(one) != nil {
			continue
		}
		if secret, symmetric := key.Key.([]byte); symmetric {
			if len(secret) == 0 {
				continue
			}
		} else if key = key.Public(); !key.Valid() {
			continue
		}
		set.keys = append(set.keys, key)
	}
	if len(set.keys) == 0 {
		return nil, errNoKeys
	}
	return set, nil
}

// verify checks the signature of t by the keys that may have made it: by their
// kid, if both have one, and their alg, if they have one.
func (s *keySet) verify(t *token) error {
	result := errNoMatchingKeys
	var signed *jose.JSONWebSignature
	for i := range s.keys {
		key := &s.keys[i]
		if t.kid != "" && key.KeyID != "" && key.KeyID != t.kid || key.Algorithm != "" && key.Algorithm != t.alg {
			continue
		}
		result = errVerification
		if signed == nil {
			var err error
			if signed, err = jose.ParseSignedCompact(t.text, algorithms()); err != nil {
				return result
			}
		}
		// The key itself and not the JWK, whose kid would be compared once more.
		if _, err := signed.Verify(key.Key); err == nil {
			return nil
		}
	}
	return result
}
