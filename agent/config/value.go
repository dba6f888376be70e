package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// assign puts an HCL value into a field. Errors say what was found and what
// would be right; they begin with a verb, to stand after the argument's name.
func assign(found cty.Value, target reflect.Value, f field, directory string) error {
	found, _ = found.UnmarkDeep()
	if !found.IsWhollyKnown() {
		return fmt.Errorf("is not known before serai runs; want %s", wanted(target.Type(), f))
	}
	if found.IsNull() {
		if !f.optional {
			return fmt.Errorf("is null; want %s", wanted(target.Type(), f))
		}
		return nil
	}
	switch {
	case target.Kind() == reflect.Pointer:
		item := reflect.New(target.Type().Elem())
		if err := assign(found, item.Elem(), f, directory); err != nil {
			return err
		}
		target.Set(item)
		return nil
	case isText(target.Type()):
		return assignText(found, target, f)
	case target.Type() == reflect.TypeFor[map[string]any]():
		return assignAny(found, target, f)
	case target.Kind() == reflect.Slice:
		return assignList(found, target, f, directory)
	case target.Kind() == reflect.Map:
		return assignMap(found, target, f, directory)
	default:
		return assignScalar(found, target, f, directory)
	}
}

// isText tells whether a field of type t is written as a string that t itself
// (or this package, for durations) reads.
func isText(t reflect.Type) bool {
	return t == reflect.TypeFor[time.Duration]() ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func assignText(found cty.Value, target reflect.Value, f field) error {
	if found.Type() != cty.String {
		return mismatch(found, target.Type(), f)
	}
	text := found.AsString()
	var err error
	switch to := target.Addr().Interface().(type) {
	case *time.Duration:
		if *to, err = time.ParseDuration(text); err == nil && *to < 0 {
			err = fmt.Errorf("is negative")
		}
	case *netip.AddrPort:
		*to, err = parseAddrPort(text)
	case encoding.TextUnmarshaler:
		err = to.UnmarshalText([]byte(text))
	}
	if err != nil {
		return mismatch(found, target.Type(), f)
	}
	return nil
}

// parseAddrPort reads an address to listen on. ":80" is port 80 on all IPv4
// addresses, "localhost:80" is 127.0.0.1:80.
func parseAddrPort(text string) (netip.AddrPort, error) {
	if rest, ok := strings.CutPrefix(text, "localhost:"); ok {
		text = "127.0.0.1:" + rest
	} else if strings.HasPrefix(text, ":") {
		text = "0.0.0.0" + text
	}
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		return address, fmt.Errorf("parse address: %w", err)
	}
	return address, nil
}

func assignList(found cty.Value, target reflect.Value, f field, directory string) error {
	t := found.Type()
	if !t.IsListType() && !t.IsTupleType() && !t.IsSetType() {
		return mismatch(found, target.Type(), f)
	}
	list := reflect.MakeSlice(target.Type(), 0, found.LengthInt())
	for _, one := range found.Elements() {
		item := reflect.New(target.Type().Elem()).Elem()
		if one.IsNull() || assign(one, item, f, directory) != nil {
			return fmt.Errorf("has %s in it; want %s", describe(one), wanted(target.Type(), f))
		}
		list = reflect.Append(list, item)
	}
	target.Set(list)
	return nil
}

func assignMap(found cty.Value, target reflect.Value, f field, directory string) error {
	t := found.Type()
	if !t.IsObjectType() && !t.IsMapType() {
		return mismatch(found, target.Type(), f)
	}
	entries := reflect.MakeMap(target.Type())
	for key, one := range found.Elements() {
		item := reflect.New(target.Type().Elem()).Elem()
		if one.IsNull() || assign(one, item, f, directory) != nil {
			return fmt.Errorf("has for %q %s; want %s", key.AsString(), describe(one), wanted(target.Type(), f))
		}
		entries.SetMapIndex(reflect.ValueOf(key.AsString()).Convert(target.Type().Key()), item)
	}
	target.Set(entries)
	return nil
}

// assignAny keeps an object as it is, for a part that knows what to make of it:
// as encoding/json would decode it.
func assignAny(found cty.Value, target reflect.Value, f field) error {
	if t := found.Type(); !t.IsObjectType() && !t.IsMapType() {
		return mismatch(found, target.Type(), f)
	}
	text, err := ctyjson.Marshal(found, found.Type())
	if err != nil {
		return fmt.Errorf("has values that cannot be written as JSON: %w", err)
	}
	if err := json.Unmarshal(text, target.Addr().Interface()); err != nil {
		return fmt.Errorf("has values that cannot be read as JSON: %w", err)
	}
	return nil
}

func assignScalar(found cty.Value, target reflect.Value, f field, directory string) error {
	switch kind := target.Kind(); {
	case kind == reflect.String && found.Type() == cty.String:
		text := found.AsString()
		if f.path {
			text = resolve(directory, text)
		}
		target.SetString(text)
		return nil
	case kind == reflect.Bool && found.Type() == cty.Bool:
		target.SetBool(found.True())
		return nil
	case target.CanInt():
		n, ok := integer(found, f)
		if ok && !target.OverflowInt(n) {
			target.SetInt(n)
			return nil
		}
	case target.CanUint():
		n, ok := integer(found, f)
		if ok && n >= 0 && !target.OverflowUint(uint64(n)) {
			target.SetUint(uint64(n))
			return nil
		}
	case target.CanFloat() && found.Type() == cty.Number:
		x, _ := found.AsBigFloat().Float64()
		target.SetFloat(x)
		return nil
	}
	return mismatch(found, target.Type(), f)
}

// integer reads a whole number, or a size such as "64KiB" where f is one.
func integer(found cty.Value, f field) (int64, bool) {
	switch {
	case found.Type() == cty.Number:
		n, accuracy := found.AsBigFloat().Int64()
		return n, accuracy == big.Exact && (n >= 0 || !f.size)
	case f.size && found.Type() == cty.String:
		return parseSize(found.AsString())
	default:
		return 0, false
	}
}

// parseSize reads "10B", "10KB" (1000) and "10KiB" (1024), and so on to GiB.
func parseSize(text string) (int64, bool) {
	digits := strings.TrimRight(text, "BKMGi")
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 {
		return 0, false
	}
	var unit int64
	switch text[len(digits):] {
	case "", "B":
		unit = 1
	case "KB":
		unit = 1e3
	case "MB":
		unit = 1e6
	case "GB":
		unit = 1e9
	case "KiB":
		unit = 1 << 10
	case "MiB":
		unit = 1 << 20
	case "GiB":
		unit = 1 << 30
	default:
		return 0, false
	}
	if n > (1<<62)/unit {
		return 0, false
	}
	return n * unit, true
}

// mismatch is the error for a value that does not fit.
func mismatch(found cty.Value, t reflect.Type, f field) error {
	return fmt.Errorf("is %s; want %s", describe(found), wanted(t, f))
}
