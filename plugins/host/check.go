package host

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

const (
	maxFields      = 128      // in an answer
	maxFieldBytes  = 64 << 10 // of all names and values in an answer
	maxPath        = 8 << 10
	maxName        = 256 // of a field or a consumer
	maxRefusalText = 4 << 10
	maxFailedText  = 1 << 10
)

// budget bounds the fields of one answer.
type budget struct{ fields, bytes int }

func (b *budget) take(size int) error {
	b.fields++
	b.bytes += size
	switch {
	case b.fields > maxFields:
		return fmt.Errorf("it has more than %d fields", maxFields)
	case b.bytes > maxFieldBytes:
		return fmt.Errorf("its fields have more than %d bytes", maxFieldBytes)
	}
	return nil
}

func (b *budget) set(from []*pluginpb.Field) ([]plugins.Field, error) {
	var to []plugins.Field
	for _, f := range from {
		name, value := string(f.GetName()), string(f.GetValue())
		if err := b.take(len(name) + len(value)); err != nil {
			return nil, err
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		if !validValue(value) {
			return nil, fmt.Errorf("the value of the field %q has characters that no field may have, or blanks at its ends: %s", name, short(value))
		}
		to = append(to, plugins.Field{Name: name, Value: value})
	}
	return to, nil
}

func (b *budget) remove(from [][]byte) ([]string, error) {
	var to []string
	for _, one := range from {
		name := string(one)
		if err := b.take(len(name)); err != nil {
			return nil, err
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		to = append(to, name)
	}
	return to, nil
}

func checkHeader(from *pluginpb.HeaderChange) (to plugins.HeaderChange, err error) {
	var b budget
	if to.Remove, err = b.remove(from.GetRemove()); err != nil {
		return plugins.HeaderChange{}, err
	}
	if to.Set, err = b.set(from.GetSet()); err != nil {
		return plugins.HeaderChange{}, err
	}
	if to.Add, err = b.set(from.GetAdd()); err != nil {
		return plugins.HeaderChange{}, err
	}
	return to, nil
}

func checkIdentity(from *pluginpb.Identity) (*plugins.Identity, error) {
	consumer := string(from.GetConsumer())
	switch {
	case consumer == "":
		return nil, errors.New("it names no consumer")
	case len(consumer) > maxName || !utf8.ValidString(consumer) || strings.ContainsFunc(consumer, isControl):
		return nil, fmt.Errorf("the consumer's name is none: %s", short(consumer))
	case len(from.GetHeader().GetAdd()) > 0:
		return nil, errors.New("an identity may set and remove fields, and it adds some")
	}
	header, err := checkHeader(from.GetHeader())
	if err != nil {
		return nil, err
	}
	return &plugins.Identity{Consumer: consumer, Set: header.Set, Remove: header.Remove}, nil
}

// checkRequestChange returns nil for no change.
func checkRequestChange(from *pluginpb.RequestChange) (*plugins.RequestChange, error) {
	header, err := checkHeader(from.GetHeader())
	if err != nil {
		return nil, err
	}
	path := string(from.GetPath())
	if path != "" && !validPath(path) {
		return nil, fmt.Errorf("the path is none: want \"/...\" of at most %d bytes without spaces, control characters and fragment, and it is %s", maxPath, short(path))
	}
	if path == "" && unchanged(&header) {
		return nil, nil //nolint:nilnil // no change, as plugins.Transformer has it
	}
	return &plugins.RequestChange{HeaderChange: header, Path: path}, nil
}

// checkResponseChange returns nil for no change.
func checkResponseChange(from *pluginpb.ResponseChange) (*plugins.ResponseChange, error) {
	header, err := checkHeader(from.GetHeader())
	if err != nil {
		return nil, err
	}
	code := from.GetStatus()
	switch {
	case code == 0:
	case code < 200 || code > 599:
		return nil, fmt.Errorf("the status is %d; want 200 to 599", code)
	case code == http.StatusNoContent, code == http.StatusResetContent, code == http.StatusNotModified:
		return nil, fmt.Errorf("the status is %d, which has no body: a response that may have one cannot become that", code)
	}
	if code == 0 && unchanged(&header) {
		return nil, nil //nolint:nilnil // no change, as plugins.Transformer has it
	}
	return &plugins.ResponseChange{HeaderChange: header, Status: int(code)}, nil
}

func unchanged(h *plugins.HeaderChange) bool { return len(h.Remove)+len(h.Set)+len(h.Add) == 0 }

func checkRefusal(from *pluginpb.Refusal) (*plugins.Refusal, error) {
	if code := from.GetStatus(); code < 400 || code > 599 {
		return nil, fmt.Errorf("it refuses with the status %d; want 400 to 599", code)
	}
	if len(from.GetText()) > maxRefusalText {
		return nil, fmt.Errorf("the text of its refusal has %d bytes; at most %d", len(from.GetText()), maxRefusalText)
	}
	var b budget
	header, err := b.set(from.GetHeader())
	if err != nil {
		return nil, err
	}
	return &plugins.Refusal{Status: int(from.GetStatus()), Text: clean(string(from.GetText())), Header: header}, nil
}

// checkName takes a lower-case token (RFC 9110 section 5.1) that is the plugin's
// to change.
func checkName(name string) error {
	if !validName(name) {
		return fmt.Errorf("%s is no name of a field in lower case", short(name))
	}
	switch name {
	case "content-length", "host", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive",
		"proxy-connection", "expect", "http2-settings":
		return fmt.Errorf("the field %q is the proxy's to set", name)
	}
	// Servers in the tradition of CGI take an underscore for a dash.
	if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-serai-") {
		return fmt.Errorf("the field %q is one by which the edge vouches for the caller", name)
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return true
}

// validValue takes a field-value of RFC 9110 section 5.5.
func validValue(value string) bool {
	if strings.Trim(value, " \t") != value {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// validPath takes an origin-form of ASCII.
func validPath(path string) bool {
	if len(path) > maxPath || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// short quotes the begin of what a plugin sent.
func short(text string) string {
	const most = 64
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}

// bounded is the begin of what a plugin sent, fit for a log.
func bounded(text string, most int) string {
	return clean(text[:min(len(text), most)])
}
