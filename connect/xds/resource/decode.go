package resource

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// decoder goes through one resource. Its methods return an error for what has
// to be refused; the caller that owns the noun puts it into Refusal.
type decoder struct {
	notes   []string
	secrets Secrets // nil for none
}

// note says that something is ignored. Notes name no resource, so that equal
// ones can be told once.
func (d *decoder) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(d.notes, text) {
		d.notes = append(d.notes, text)
	}
}

// only returns an error if a field of msg is set that is neither among the
// understood nor among the ignored ones. Both are names separated by spaces.
// Ignored ones are noted, except those after a "-", which nobody misses.
func (d *decoder) only(msg proto.Message, understood, ignored string) error {
	var err error
	known := strings.Fields(understood)
	noted, silent, _ := strings.Cut(ignored, "-")
	m := msg.ProtoReflect()
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		switch name := string(field.Name()); {
		case slices.Contains(known, name), slices.Contains(strings.Fields(silent), name):
		case slices.Contains(strings.Fields(noted), name):
			d.note("%s.%s is ignored", m.Descriptor().Name(), name)
		default:
			err = fmt.Errorf("%s.%s is not supported", m.Descriptor().Name(), name)
		}
		return err == nil
	})
	return err
}

// parse reads a whole resource.
func parse(body []byte, into proto.Message) error {
	if err := proto.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", into.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// typeOf is the message's full name in a type URL.
func typeOf(a *anypb.Any) string {
	url := a.GetTypeUrl()
	return url[strings.LastIndexByte(url, '/')+1:]
}

// unpack reads a typed config.
func unpack(a *anypb.Any, into proto.Message) error {
	want := into.ProtoReflect().Descriptor()
	if got := typeOf(a); got != string(want.FullName()) {
		return fmt.Errorf("type %q is not supported", got)
	}
	return parse(a.GetValue(), into)
}

// duration returns fallback for an absent value. A negative or absurd one is
// refused by nobody and counts as 0.
func duration(d *durationpb.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return max(0, d.AsDuration())
}

// reason is an error as the text of a Refusal.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
