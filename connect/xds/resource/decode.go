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

	"github.com/serai-net/serai/connect/mesh"
)

// decoder goes through one resource. Its methods return an error for what has
// to be refused; the caller that owns the noun puts it into Refusal.
type decoder struct {
	notes   []string
	secrets Secrets // nil for none
	// overridden is what was read already of what routes say about filters.
	overridden map[said]*mesh.FilterOverride
}

// maxNotes bounds what is noted of one resource, which may have as many oddities as it
// has elements.
const maxNotes = 100

// note says that something is ignored. Notes name no resource, so that equal
// ones can be told once.
func (d *decoder) note(format string, args ...any) {
	if len(d.notes) >= maxNotes {
		return
	}
	text := fmt.Sprintf(format, args...)
	if len(d.notes) == maxNotes-1 {
		text = "there is more that has no effect than is told here"
	}
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

// longest bounds a duration, so that it can be added to others and multiplied.
const longest = 10 * 365 * 24 * time.Hour

// duration returns fallback for an absent value. A negative one is refused by nobody
// and counts as 0, one that nobody will see the end of as longest.
func duration(d *durationpb.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return min(max(0, d.AsDuration()), longest)
}

// reason is an error as the text of a Refusal.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
