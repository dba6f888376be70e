package xds

import (
	"errors"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// table is the resources of one type as last received, decoded.
type table[T any] struct {
	entries map[string]*entry[T]
	decode  func(secrets resource.Reader, body []byte) (value *T, notes []string, err error)
	secrets *secret.Store
	// named is the name that a value gives itself.
	named func(value *T) string
	// answered says that the control plane has sent a response of this type.
	answered bool
	// unread are the resources whose latest bytes cannot be read, with the reason.
	unread unread
}

type entry[T any] struct {
	value *T
	// body is what value was decoded from; a config dump shows it.
	body body
	// version is the control plane's name of body.
	version string
	// first is when a resource of this name came, since when this value did.
	first, since time.Time
	// gone is when it was removed; zero while it is there.
	gone time.Time
	// reading is what value refers to; nil for nothing.
	reading *secret.Reading
	// told says that it was logged that it is waited for no more, or kept though
	// it is gone.
	told bool
	// awaited are the route tables that it waits for; nil for none.
	awaited map[awaited]bool
	// static says that it stands in the bootstrap file: no update changes it.
	static bool
}

// awaited is a route table and how long it is waited for.
type awaited struct {
	table string
	wait  mesh.Wait
}

func newTable[T any](decode func(resource.Reader, []byte) (*T, []string, error), named func(*T) string, secrets *secret.Store) *table[T] {
	return &table[T]{entries: map[string]*entry[T]{}, decode: decode, named: named, secrets: secrets, unread: unread{}}
}

// apply takes over an update and returns what of it was ignored. A value that did
// not change keeps its pointer. A resource that cannot be read leaves what was
// there of its name, and the others of the update as they are sent; the error
// names all such.
func (t *table[T]) apply(update *ads.Update, now time.Time) ([]string, error) {
	var notes []string
	var bad []error
	t.answered = true
	var packer packer
	for _, r := range update.Resources {
		told, err := t.take(r, &packer, now)
		notes = append(notes, told...)
		if t.unread.note(r.Name, err); err != nil {
			bad = append(bad, fmt.Errorf("resource %q: %w", r.Name, err))
		}
	}
	for _, name := range update.Removed {
		t.unread.note(name, nil)
		if old := t.entries[name]; old != nil && !old.static && old.gone.IsZero() {
			old.gone = now
		}
	}
	return notes, errors.Join(bad...)
}

func (t *table[T]) take(r ads.Resource, packer *packer, now time.Time) ([]string, error) {
	e := t.entries[r.Name]
	if e != nil && e.static {
		return []string{fmt.Sprintf("%q of the control plane is ignored: the bootstrap file has one of this name", r.Name)}, nil
	}
	var notes []string
	if e == nil || !e.body.is(r.Body) {
		value, reading, told, err := t.read(r.Body)
		if err != nil {
			return nil, err
		}
		if name := t.named(value); name != r.Name {
			return nil, fmt.Errorf("it calls itself %q", name)
		}
		if e == nil {
			e = &entry[T]{first: now}
			t.entries[r.Name] = e
		}
		e.value, e.reading, e.body, e.since, e.awaited, notes = value, reading, packer.pack(r.Body), now, nil, told
	}
	e.version = r.Version
	if !e.gone.IsZero() {
		e.gone, e.told = time.Time{}, false
	}
	return notes, nil
}

// read decodes a body and tells what it refers to, nil for nothing.
func (t *table[T]) read(body []byte) (value *T, reading *secret.Reading, notes []string, err error) {
	reading = t.secrets.Read()
	value, notes, err = t.decode(resource.Reader{Secrets: reading}, body)
	if reading.Empty() {
		reading = nil
	}
	return value, reading, notes, err
}

// refresh decodes anew what refers to something that has changed. It tells whether
// there was any.
func (t *table[T]) refresh(now time.Time) bool {
	found := false
	for _, e := range t.entries {
		if !e.reading.Stale() {
			continue
		}
		value, reading, _, err := t.read(e.body.bytes())
		if err != nil {
			continue // it was decoded before
		}
		e.value, e.reading, e.since = value, reading, now
		found = true
	}
	return found
}

// readings adds those of all entries.
func (t *table[T]) readings(all []*secret.Reading) []*secret.Reading {
	for _, e := range t.entries {
		if e.reading != nil {
			all = append(all, e.reading)
		}
	}
	return all
}

// held is the versions of what is there. What was removed is not, though it may
// still be in force: it shall come again if it is there again.
func (t *table[T]) held() map[string]string {
	held := make(map[string]string, len(t.entries))
	for name, e := range t.entries {
		if e.gone.IsZero() && e.version != "" {
			held[name] = e.version
		}
	}
	return held
}

// received is all that is there, as it came.
func (t *table[T]) received() []ads.Resource {
	all := make([]ads.Resource, 0, len(t.entries))
	for name, e := range t.entries {
		if e.gone.IsZero() && !e.static {
			all = append(all, ads.Resource{Name: name, Version: e.version, Body: e.body.bytes()})
		}
	}
	return all
}

// told is the values of all that is there.
func (t *table[T]) told() map[string]*T {
	all := make(map[string]*T, len(t.entries))
	for name, e := range t.entries {
		if e.gone.IsZero() {
			all[name] = e.value
		}
	}
	return all
}

// clear drops all that is not static.
func (t *table[T]) clear() {
	for name, e := range t.entries {
		if !e.static {
			delete(t.entries, name)
		}
	}
	clear(t.unread)
	t.answered = false
}

// unread is the reasons for which resources of one type cannot be read, by name.
type unread map[string]string

// maxUnread bounds how many are remembered.
const maxUnread = 1000

// note takes down what became of a resource; nil means that all is well with it.
func (u unread) note(name string, err error) {
	switch {
	case err == nil:
		delete(u, name)
	case len(u) < maxUnread || u[name] != "":
		u[name] = err.Error()
	}
}
