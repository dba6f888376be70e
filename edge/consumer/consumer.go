// Package consumer knows who may call: consumers, the plans they are on, and
// the API keys by which they are told apart.
//
// Of a key only its SHA-256 is kept. A presented key is hashed before it is
// looked up, so neither a memory dump nor the time that a comparison takes
// tells anything of the keys that are known.
package consumer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Config is a consumer: a customer, a team or a program that calls APIs.
//
//	consumer "acme" {
//	  plan = "gold"
//	  key "laptop" { sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" }
//	  key "ci"     { key = env("ACME_CI_KEY") }
//	}
type Config struct {
	// Name tells consumers apart, in allow_consumers, logs and metrics, and is
	// sent to upstreams in the header x-serai-consumer.
	Name string `hcl:"name,label"`
	// Plan is what the consumer has subscribed to; "" for none.
	Plan string `hcl:"plan,optional"`
	// Metadata is the operator's own; Serai does not read it.
	Metadata map[string]string `hcl:"metadata,optional"`
	// Keys are the consumer's API keys. With none nobody can call as this
	// consumer.
	Keys []KeyConfig `hcl:"key,block"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// KeyConfig is one API key. Exactly one of SHA256 and Key is given.
type KeyConfig struct {
	// Name tells the consumer's keys apart, for rotation.
	Name string `hcl:"name,label"`
	// SHA256 is the key's hash in hexadecimal, as `printf %s KEY | sha256sum`
	// prints it; what follows after a space does not count.
	SHA256 string `hcl:"sha256,optional"`
	// Key is the key itself; better taken from env() or file() than written
	// down. White space around it is cut off.
	Key string `hcl:"key,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Digest is the SHA-256 of an API key.
type Digest [sha256.Size]byte

// DigestOf hashes a key as a client presents it.
func DigestOf(key string) Digest { return sha256.Sum256([]byte(key)) }

// Consumer is one who may call. It is immutable.
type Consumer struct {
	// Name is unique in a Store.
	Name string
	// Plan is "" for none.
	Plan string
	// Metadata is the operator's own; nil for none.
	Metadata map[string]string
}

// Key is one API key of a consumer. It is immutable.
type Key struct {
	// Name is unique among the consumer's keys.
	Name string
	// Consumer is whose key it is, never nil.
	Consumer *Consumer
}

// digest reads the key's hash. Errors do not show the key.
func (c *KeyConfig) digest() (Digest, error) {
	var digest Digest
	key := strings.TrimSpace(c.Key)
	switch {
	case c.SHA256 != "" && c.Key != "":
		return digest, errors.New("has both sha256 and key; keep one")
	case c.Key != "" && key != "":
		return DigestOf(key), nil
	case c.SHA256 != "":
		text, _, _ := strings.Cut(strings.TrimSpace(c.SHA256), " ")
		data, err := hex.DecodeString(text)
		if err != nil || len(data) != len(digest) {
			return digest, fmt.Errorf("has a sha256 that is not %d hexadecimal digits; "+
				"printf %%s KEY | sha256sum prints it", 2*len(digest))
		}
		copy(digest[:], data)
		return digest, nil
	default:
		return digest, errors.New(`has no key; add sha256 = "..." or key = env("...")`)
	}
}
