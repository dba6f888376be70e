package consumer

import (
	"errors"
	"fmt"

	"golang.org/x/net/http/httpguts"
)

// Store finds consumers. It is immutable and safe for concurrent use.
type Store struct {
	byName map[string]*Consumer
	byKey  map[Digest]*Key
}

// NewStore makes a Store. Its errors begin with the position of what they are
// about, if there is one, and are all that is wrong.
func NewStore(configs []Config) (*Store, error) {
	s := &Store{byName: map[string]*Consumer{}, byKey: map[Digest]*Key{}}
	names := map[string]string{} // positions
	var errs []error
	for i := range configs {
		c := &configs[i]
		if c.Name == "" {
			errs = append(errs, at(c.Pos, "a consumer has no name"))
			continue
		}
		if other, taken := names[c.Name]; taken {
			errs = append(errs, at(c.Pos, "duplicate consumer %q%s", c.Name, first(other)))
			continue
		}
		names[c.Name] = c.Pos
		if !httpguts.ValidHeaderFieldValue(c.Name) || !httpguts.ValidHeaderFieldValue(c.Plan) {
			errs = append(errs, at(c.Pos, "consumer %q: name and plan are sent in header fields, and have a character that cannot be", c.Name))
		}
		consumer := &Consumer{Name: c.Name, Plan: c.Plan, Metadata: c.Metadata}
		s.byName[c.Name] = consumer
		errs = append(errs, s.addKeys(consumer, c.Keys)...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) addKeys(consumer *Consumer, keys []KeyConfig) []error {
	var errs []error
	names := map[string]string{}
	for i := range keys {
		k := &keys[i]
		if other, taken := names[k.Name]; taken {
			errs = append(errs, at(k.Pos, "duplicate key %q of consumer %q%s", k.Name, consumer.Name, first(other)))
			continue
		}
		names[k.Name] = k.Pos
		digest, err := k.digest()
		if err != nil {
			errs = append(errs, at(k.Pos, "key %q of consumer %q %w", k.Name, consumer.Name, err))
			continue
		}
		if other := s.byKey[digest]; other != nil {
			errs = append(errs, at(k.Pos, "key %q of consumer %q is the same as key %q of consumer %q; give each its own",
				k.Name, consumer.Name, other.Name, other.Consumer.Name))
			continue
		}
		s.byKey[digest] = &Key{Name: k.Name, Consumer: consumer}
	}
	return errs
}

// ByKey returns the key that a client presents, nil if it is not known.
func (s *Store) ByKey(key string) *Key { return s.byKey[DigestOf(key)] }

// Caller returns the name of the consumer who has key.
func (s *Store) Caller(key string) (name string, ok bool) {
	if k := s.ByKey(key); k != nil {
		return k.Consumer.Name, true
	}
	return "", false
}

// ByName returns a consumer, nil if there is none of that name.
func (s *Store) ByName(name string) *Consumer { return s.byName[name] }

// Len is the number of consumers.
func (s *Store) Len() int { return len(s.byName) }

// at puts a position in front of an error.
func at(position, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if position == "" {
		return err
	}
	return fmt.Errorf("%s: %w", position, err)
}

// first says where the other one of two stands.
func first(position string) string {
	if position == "" {
		return ""
	}
	return "; the first is at " + position
}
