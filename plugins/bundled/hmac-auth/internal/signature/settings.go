package signature

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	defaultSkew      = 30 * time.Second
	maxSkew          = 5 * time.Minute
	minSecret        = 16 // bytes
	defaultMaxNonces = 1 << 17
	mostNonces       = 1 << 22
)

// settings are those of one use; README.md has them for users.
type settings struct {
	keys map[string]key
	skew time.Duration
	// required must be covered; "@query" only if there is a query.
	required     []string
	requireNonce bool
	maxNonces    int
	// unsignedBody accepts bodies that no digest covers, forward leaves the
	// signature in the request.
	unsignedBody, forward bool
}

// key is a shared secret, and whose it is.
type key struct {
	secret   []byte
	consumer string
}

func defaultRequired() []string { return []string{"@method", "@authority", "@path", "@query"} }

// parseSettings reads settings as encoding/json decodes them. The error is all
// that is wrong.
func parseSettings(from map[string]any) (*settings, error) {
	s := &settings{skew: defaultSkew, required: defaultRequired(), requireNonce: true, maxNonces: defaultMaxNonces}
	readers := map[string]func(any) error{
		"keys":              s.readKeys,
		"clock_skew":        s.readSkew,
		"required":          s.readRequired,
		"require_nonce":     reader(&s.requireNonce),
		"unsigned_body":     reader(&s.unsignedBody),
		"forward_signature": reader(&s.forward),
		"max_nonces":        s.readMaxNonces,
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(from)) {
		read := readers[name]
		if read == nil {
			errs = append(errs, fmt.Errorf("%q is not known; there is %s", name, strings.Join(slices.Sorted(maps.Keys(readers)), ", ")))
			continue
		}
		if err := read(from[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", name, err))
		}
	}
	if from["keys"] == nil {
		errs = append(errs, errors.New(`keys are missing; add keys = { "key-id" = { secret = env("..."), consumer = "acme" } }`))
	}
	return s, errors.Join(errs...)
}

func reader(to *bool) func(any) error {
	return func(value any) error {
		b, ok := value.(bool)
		if !ok {
			return fmt.Errorf("is %v; want true or false", value)
		}
		*to = b
		return nil
	}
}

func (s *settings) readSkew(value any) error {
	text, _ := value.(string)
	skew, err := time.ParseDuration(text)
	if err != nil || skew < time.Second || skew > maxSkew {
		return fmt.Errorf(`is %v; want a time from "1s" to "5m", such as "30s"`, value)
	}
	s.skew = skew.Truncate(time.Second)
	return nil
}

func (s *settings) readMaxNonces(value any) error {
	n, ok := value.(float64)
	if !ok || n < 1 || n > mostNonces || n != float64(int(n)) {
		return fmt.Errorf("is %v; want a whole number from 1 to %d", value, mostNonces)
	}
	s.maxNonces = int(n)
	return nil
}

func (s *settings) readRequired(value any) error {
	list, ok := value.([]any)
	if !ok {
		return fmt.Errorf(`is %v; want a list such as ["@method", "@authority", "@path"]`, value)
	}
	s.required = []string{}
	for _, one := range list {
		name, _ := one.(string)
		if err := checkComponent(name); err != nil {
			return fmt.Errorf("has %w", err)
		}
		if !slices.Contains(s.required, name) {
			s.required = append(s.required, name)
		}
	}
	return nil
}

func (s *settings) readKeys(value any) error {
	entries, ok := value.(map[string]any)
	if !ok || len(entries) == 0 {
		return errors.New(`must name one key at least: keys = { "key-id" = { secret = env("..."), consumer = "acme" } }`)
	}
	s.keys = map[string]key{}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		k, err := parseKey(id, entries[id])
		if err != nil {
			errs = append(errs, fmt.Errorf("has %q, which %w", id, err))
		}
		s.keys[id] = k
	}
	return errors.Join(errs...)
}

// parseKey reads one key; errors never show its secret.
func parseKey(id string, value any) (key, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return key{}, errors.New(`must be written { secret = env("..."), consumer = "acme" }`)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "secret" && name != "consumer" {
			return key{}, fmt.Errorf("has %q; a key has secret and consumer", name)
		}
	}
	secret, _ := fields["secret"].(string)
	consumer, _ := fields["consumer"].(string)
	secret = withoutLineEnd(secret)
	switch {
	case id == "" || len(id) > maxKeyID || strings.ContainsFunc(id, notPrintable):
		return key{}, fmt.Errorf("is no key ID: want 1 to %d printable ASCII characters", maxKeyID)
	case secret == "":
		return key{}, errors.New(`has no secret; add secret = env("...")`)
	case len(secret) < minSecret:
		return key{}, fmt.Errorf("has a secret of %d bytes, which is guessed too easily: take at least %d, as `openssl rand -hex 32` prints",
			len(secret), minSecret)
	case consumer == "":
		return key{}, errors.New(`has no consumer; add consumer = "NAME", a consumer of the edge`)
	}
	return key{secret: []byte(secret), consumer: consumer}, nil
}

// withoutLineEnd cuts off what an editor puts at the end of a file.
func withoutLineEnd(text string) string {
	if rest, ok := strings.CutSuffix(text, "\r\n"); ok {
		return rest
	}
	return strings.TrimSuffix(text, "\n")
}

func notPrintable(r rune) bool { return r < ' ' || r > '~' }
