package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// differences says which fields of two nouns differ, a line each:
//
//	chains[0].http.filters[1].intention.policies: 1 more
//	connectTimeout: 5s -> 1s
func differences[T any](before, now *T) []string {
	d := &differ{}
	d.walk("", reflect.ValueOf(before).Elem(), reflect.ValueOf(now).Elem())
	return d.lines
}

type differ struct{ lines []string }

// maxShown bounds how much of a value is shown.
const maxShown = 80

// maxLines bounds what is looked for: more is not shown, and how many more there
// are does not matter beyond that.
const maxLines = 200

func (d *differ) tell(path, format string, args ...any) {
	if len(d.lines) < maxLines {
		d.lines = append(d.lines, strings.TrimPrefix(path, ".")+": "+fmt.Sprintf(format, args...))
	}
}

func (d *differ) walk(path string, a, b reflect.Value) {
	if text, ok := texts(a, b); ok {
		if text[0] != text[1] {
			d.tell(path, "%s -> %s", text[0], text[1])
		}
		return
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		d.pointers(path, a, b)
	case reflect.Struct:
		for i := range a.NumField() {
			if f := a.Type().Field(i); f.IsExported() {
				d.walk(path+"."+lowerFirst(f.Name), a.Field(i), b.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range min(a.Len(), b.Len()) {
			d.walk(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
		}
		d.length(path, a.Len(), b.Len())
	case reflect.Map:
		d.maps(path, a, b)
	default:
		if a.CanInterface() && !reflect.DeepEqual(a.Interface(), b.Interface()) {
			d.tell(path, "%s -> %s", show(path, a), show(path, b))
		}
	}
}

func (d *differ) pointers(path string, a, b reflect.Value) {
	switch {
	case a.IsNil() && b.IsNil(), a.Kind() == reflect.Pointer && a.Pointer() == b.Pointer():
	case a.IsNil():
		d.tell(path, "added")
	case b.IsNil():
		d.tell(path, "removed")
	case a.Elem().Type() != b.Elem().Type():
		d.tell(path, "changed")
	default:
		d.walk(path, a.Elem(), b.Elem())
	}
}

func (d *differ) length(path string, a, b int) {
	switch {
	case a < b:
		d.tell(path, "%d more", b-a)
	case a > b:
		d.tell(path, "%d fewer", a-b)
	}
}

func (d *differ) maps(path string, a, b reflect.Value) {
	keys := a.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	for _, key := range keys {
		at := fmt.Sprintf("%s[%v]", path, key)
		if value := b.MapIndex(key); value.IsValid() {
			d.walk(at, a.MapIndex(key), value)
		} else {
			d.tell(at, "removed")
		}
	}
	for _, key := range b.MapKeys() {
		if !a.MapIndex(key).IsValid() {
			d.tell(fmt.Sprintf("%s[%v]", path, key), "added")
		}
	}
}

// texts shows values that say themselves what they are: addresses, durations, and
// such of our own.
func texts(a, b reflect.Value) (both [2]string, ok bool) {
	if !a.CanInterface() || !b.CanInterface() {
		return both, false
	}
	one, ok := reflect.TypeAssert[fmt.Stringer](a)
	if !ok || a.Kind() == reflect.Pointer || a.Kind() == reflect.Interface {
		return both, false
	}
	other, ok := reflect.TypeAssert[fmt.Stringer](b)
	if !ok {
		return both, false
	}
	return [2]string{one.String(), other.String()}, true
}

// show is a value for people. What is secret, or too long to read, is told by its
// hash.
func show(path string, v reflect.Value) string {
	if v.Kind() != reflect.String {
		return fmt.Sprint(v)
	}
	text := v.String()
	switch {
	case text == "":
		return `""`
	case isSecret(path):
		return "(key " + hashOf(text) + ")"
	case strings.Contains(text, "-----BEGIN"):
		return "(PEM " + hashOf(text) + ")"
	case len(text) > maxShown:
		return fmt.Sprintf("%.60q... (%d bytes, %s)", text, len(text), hashOf(text))
	default:
		return fmt.Sprintf("%q", text)
	}
}

// isSecret tells whether a field of the nouns holds what nobody may read: keys of
// certificates, of tickets and of AWS, those by which tokens are verified, which may be
// shared, and what is told to services of ours beside a call, where their tokens stand.
func isSecret(path string) bool {
	switch field := path[strings.LastIndexByte(path, '.')+1:]; field {
	case "keyPEM", "secretKey", "session", "keys":
		return true
	case "value", "text":
		return strings.Contains(path, ".metadata[") || strings.Contains(path, ".http.add[")
	default:
		return strings.HasPrefix(field, "keys[") && strings.Contains(path, ".resume.")
	}
}

// hashOf tells texts apart without showing them.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:4])
}

func lowerFirst(name string) string {
	if len(name) > 1 && name[1] >= 'A' && name[1] <= 'Z' {
		n := 0
		for n < len(name) && name[n] >= 'A' && name[n] <= 'Z' {
			n++
		}
		if n == len(name) {
			return strings.ToLower(name)
		}
		return strings.ToLower(name[:n-1]) + name[n-1:]
	}
	return strings.ToLower(name[:1]) + name[1:]
}
