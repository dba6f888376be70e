package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// role is what a struct field is in its block.
type role uint8

const (
	argument role = iota
	label
	block
	position
)

// field is one tagged field of a Config struct.
type field struct {
	index    int
	name     string
	role     role
	optional bool
	// merge: repetitions of the block are one block.
	merge bool
	// size and path say how an argument's value is read.
	size, path bool
}

// fieldsOf reads the tags of a Config struct. A wrong tag is a bug in our own
// code, which every test of the part would meet: it panics.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("hcl")
		if !ok {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		f := field{index: i, name: name}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "":
			case "optional":
				f.optional = true
			case "label":
				f.role = label
			case "block":
				f.role = block
			case "merge":
				f.merge = true
			case "pos":
				f.role = position
			case "size":
				f.size = true
			case "path":
				f.path = true
			default:
				panic(fmt.Sprintf("config: %s.%s has the unknown tag option %q", t, t.Field(i).Name, option))
			}
		}
		fields = append(fields, f)
	}
	return fields
}

// schemaOf is what a body of these fields may hold.
func schemaOf(t reflect.Type, fields []field) *hcl.BodySchema {
	schema := &hcl.BodySchema{}
	for _, f := range fields {
		switch f.role {
		case argument:
			// what is required is checked by the decoder, which has a better message
			schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: f.name})
		case block:
			schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{
				Type: f.name, LabelNames: labelsOf(blockType(t.Field(f.index).Type)),
			})
		case label, position:
		}
	}
	return schema
}

// labelsOf names the labels of a block's struct.
func labelsOf(t reflect.Type) []string {
	var names []string
	for _, f := range fieldsOf(t) {
		if f.role == label {
			names = append(names, f.name)
		}
	}
	return names
}

// blockType is the struct behind a block field: *T, []T or []*T.
func blockType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}
