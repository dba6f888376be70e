package xds

import (
	"bytes"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/xds/ads"
)

// table is the resources of one type as last received, decoded.
type table[T any] struct {
	entries map[string]*entry[T]
	decode  func(body []byte) (value *T, notes []string, err error)
	// answered says that the control plane has sent a response of this type.
	answered bool
}

type entry[T any] struct {
	value *T
	// body is what value was decoded from; a config dump shows it.
	body []byte
	// first is when a resource of this name came, since when this value did.
	first, since time.Time
	// gone is when it was removed; zero while it is there.
	gone time.Time
	// told says that it was logged that it is waited for no more, or kept though
	// it is gone.
	told bool
	// static says that it stands in the bootstrap file: no update changes it.
	static bool
}

func newTable[T any](decode func([]byte) (*T, []string, error)) *table[T] {
	return &table[T]{entries: map[string]*entry[T]{}, decode: decode}
}

// apply takes over an update. All of it is decoded before anything changes. A
// value that did not change keeps its pointer. It returns what was ignored.
func (t *table[T]) apply(update *ads.Update, now time.Time) ([]string, error) {
	var notes []string
	values := make([]*T, len(update.Resources))
	for i, r := range update.Resources {
		if old := t.entries[r.Name]; old != nil && (old.static || bytes.Equal(old.body, r.Body)) {
			if values[i] = old.value; old.static {
				notes = append(notes, fmt.Sprintf("%q of the control plane is ignored: the bootstrap file has one of this name", r.Name))
			}
			continue
		}
		value, told, err := t.decode(r.Body)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %w", r.Name, err)
		}
		values[i] = value
		notes = append(notes, told...)
	}
	t.answered = true
	for i, r := range update.Resources {
		old := t.entries[r.Name]
		if old == nil {
			old = &entry[T]{first: now}
			t.entries[r.Name] = old
		}
		if old.value != values[i] {
			old.value, old.body, old.since = values[i], r.Body, now
		}
		if !old.gone.IsZero() {
			old.gone, old.told = time.Time{}, false
		}
	}
	for _, name := range update.Removed {
		if old := t.entries[name]; old != nil && !old.static && old.gone.IsZero() {
			old.gone = now
		}
	}
	return notes, nil
}
