package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// describe names a value that the user wrote.
func describe(found cty.Value) string {
	switch t := found.Type(); {
	case found.IsNull():
		return "null"
	case t == cty.String:
		text := found.AsString()
		if len(text) > 40 {
			text = text[:40] + "..."
		}
		return strconv.Quote(text)
	case t == cty.Number:
		x, _ := found.AsBigFloat().Float64() // big.Float.Text would take for ever for 1e99999999
		return "the number " + strconv.FormatFloat(x, 'g', 15, 64)
	case t == cty.Bool && found.True():
		return "the bool true"
	case t == cty.Bool:
		return "the bool false"
	case t.IsObjectType(), t.IsMapType():
		return "a map"
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return "a list"
	default:
		return "a " + t.FriendlyName()
	}
}

// wanted says what fits a field of type t, with an example.
func wanted(t reflect.Type, f field) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return kind(t, f) + ", such as " + example(t, f)
}

func kind(t reflect.Type, f field) string {
	switch {
	case f.size:
		return "a size"
	case t == reflect.TypeFor[time.Duration]():
		return "a duration"
	case t == reflect.TypeFor[netip.AddrPort]():
		return "an IP address and port"
	case t == reflect.TypeFor[netip.Addr]():
		return "an IP address"
	case t == reflect.TypeFor[netip.Prefix]():
		return "a network"
	case t == reflect.TypeFor[slog.Level]():
		return "a level"
	case isText(t):
		return "a string"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Map:
		return "a map"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64, t.Kind() == reflect.Float32:
		return "a number"
	default:
		return "a whole number"
	}
}

// example is a value that fits, as it is written in HCL.
func example(t reflect.Type, f field) string {
	switch {
	case f.size:
		return `"64KiB"`
	case t == reflect.TypeFor[time.Duration]():
		return `"30s"`
	case t == reflect.TypeFor[netip.AddrPort]():
		return `"0.0.0.0:8080"`
	case t == reflect.TypeFor[netip.Addr]():
		return `"192.0.2.1"`
	case t == reflect.TypeFor[netip.Prefix]():
		return `"10.0.0.0/8"`
	case t == reflect.TypeFor[slog.Level]():
		return `"info"`
	case t.Kind() == reflect.Slice && !isText(t):
		return "[" + example(t.Elem(), f) + "]"
	case t.Kind() == reflect.Map:
		return "{ name = " + example(t.Elem(), f) + " }"
	case t.Kind() == reflect.Bool:
		return "true"
	case t.Kind() == reflect.Float64, t.Kind() == reflect.Float32:
		return "0.5"
	case t.Kind() == reflect.String, t.Kind() == reflect.Interface, isText(t):
		return `"..."`
	default:
		return "10"
	}
}
