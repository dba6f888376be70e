package format

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// dataOperator are those of metadata and filter state.
func dataOperator(name string) (definition, bool) {
	switch name {
	case "DYNAMIC_METADATA":
		return definition{syntax: wantsArg, make: metadataOperator(dynamic)}, true
	case "CLUSTER_METADATA":
		return definition{syntax: wantsArg, make: metadataOperator(ofCluster)}, true
	case "UPSTREAM_METADATA":
		return definition{syntax: wantsArg, make: metadataOperator(ofEndpoint)}, true
	case "FILTER_STATE", "UPSTREAM_FILTER_STATE":
		return definition{syntax: wantsArg | takesMax, make: filterState, blank: true}, true
	case "METADATA":
		return definition{syntax: wantsArg | takesMax, make: anyMetadata}, true
	case "CEL", "TYPED_CEL": // of which nothing is known here but that there is an argument
		return definition{syntax: wantsArg | takesMax, make: nothing, blank: true}, true
	}
	return definition{}, false
}

// What has metadata.
func dynamic(in *Input) *wire.Metadata   { return &in.Exchange.Metadata }
func ofRoute(in *Input) *wire.Metadata   { return in.Exchange.RouteMetadata }
func ofCluster(in *Input) *wire.Metadata { return in.Exchange.ClusterMetadata }
func ofEndpoint(in *Input) *wire.Metadata {
	if a := in.attempt(); a != nil {
		return a.Metadata
	}
	return nil
}

// metadataOperator reads `NAMESPACE:KEY:KEY...`; a namespace alone means all of it.
func metadataOperator(of func(in *Input) *wire.Metadata) func(arg string) (operator, error) {
	return func(arg string) (operator, error) {
		namespace, keys, more := strings.Cut(arg, ":")
		if more {
			return metadataValue(of, namespace, strings.Split(keys, ":")), nil
		}
		return func(dst []byte, in *Input) ([]byte, kind) {
			if all := of(in).Namespace(namespace); all != nil {
				return appendData(dst, all), raw
			}
			return dst, absent
		}, nil
	}
}

func metadataValue(of func(in *Input) *wire.Metadata, namespace string, path []string) operator {
	return func(dst []byte, in *Input) ([]byte, kind) {
		value, ok := of(in).Lookup(namespace, path)
		if !ok {
			return dst, absent
		}
		switch v := value.(type) {
		case string:
			return append(dst, v...), text
		case float64:
			return appendFloat(dst, v), number
		case nil:
			return dst, absent
		}
		return appendData(dst, value), raw
	}
}

// anyMetadata reads `KIND:NAMESPACE:KEY...`.
func anyMetadata(arg string) (operator, error) {
	what, rest, _ := strings.Cut(arg, ":")
	switch what {
	case "DYNAMIC":
		return metadataOperator(dynamic)(rest)
	case "CLUSTER":
		return metadataOperator(ofCluster)(rest)
	case "UPSTREAM_HOST":
		return metadataOperator(ofEndpoint)(rest)
	case "ROUTE":
		return metadataOperator(ofRoute)(rest)
	case "LISTENER", "VIRTUAL_HOST": // which is not kept
		return nothing(rest)
	}
	return nil, fmt.Errorf("metadata of %q is unknown", what)
}

// filterState checks `KEY[:PLAIN|TYPED|FIELD:NAME]`. Nothing of ours is in it.
func filterState(arg string) (operator, error) {
	key, how, _ := strings.Cut(arg, ":")
	how, field, _ := strings.Cut(how, ":")
	known := how == "" || how == "PLAIN" || how == "TYPED" || how == "FIELD"
	if key == "" || !known || (how == "FIELD") != (field != "") {
		return nil, fmt.Errorf("%q is not of the form KEY:PLAIN, KEY:TYPED or KEY:FIELD:NAME", arg)
	}
	return nothing(arg)
}

func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(dst, "null"...)
	case f == math.Trunc(f) && math.Abs(f) < 1<<53:
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// appendData appends a value as JSON, members in order of their names.
func appendData(dst []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendQuoted(dst, v)
	case float64:
		return appendFloat(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendData(dst, item)
		}
		return append(dst, ']')
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, name), ':')
			dst = appendData(dst, v[name])
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}
