package signature

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"

	"github.com/serai-net/serai/plugins"
)

const (
	maxInput      = 8 << 10 // bytes of Signature-Input, and of Signature
	maxSignatures = 8       // in one request
	maxComponents = 64      // in one signature
	maxKeyID      = 128
	maxNonce      = 128
)

// message is one signature of a request, as it is claimed.
type message struct {
	// components are the names of what it covers, in order, each once.
	components []string
	// params is the value of @signature-params.
	params string
	keyID  string
	nonce  string
	// created and expires are Unix times in seconds; hasExpires tells whether it
	// does.
	created, expires int64
	hasExpires       bool
	mac              []byte
}

// Reasons for which there is nothing to verify.
var (
	errNone      = errors.New("a signature is needed: send the fields Signature-Input and Signature (RFC 9421)")
	errTooLong   = errors.New("the fields Signature-Input and Signature have too much in them")
	errInput     = errors.New("the field Signature-Input is malformed (RFC 9421 section 4.1)")
	errValue     = errors.New("the field Signature is malformed, or has no value for what Signature-Input names")
	errAmbiguous = errors.New("there are several signatures, and not exactly one of them is by a key that is known here")
)

// parse finds the signature to verify: the only one, or that whose key is known.
func parse(r *plugins.Request, known map[string]key) (*message, error) {
	inputs, values := valuesOf(r, "signature-input"), valuesOf(r, "signature")
	if len(inputs) == 0 && len(values) == 0 {
		return nil, errNone
	}
	if size(inputs) > maxInput || size(values) > maxInput {
		return nil, errTooLong
	}
	input, err := httpsfv.UnmarshalDictionary(inputs)
	if err != nil || len(input.Names()) == 0 {
		return nil, errInput
	}
	value, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return nil, errValue
	}
	if len(input.Names()) > maxSignatures {
		return nil, errTooLong
	}
	var found *message
	for _, label := range input.Names() {
		m, err := parseOne(input, value, label)
		if err != nil {
			return nil, err
		}
		if len(input.Names()) == 1 {
			return m, nil
		}
		if _, ours := known[m.keyID]; !ours {
			continue
		}
		if found != nil {
			return nil, errAmbiguous
		}
		found = m
	}
	if found == nil {
		return nil, errAmbiguous
	}
	return found, nil
}

func size(values []string) int {
	n := 0
	for _, value := range values {
		n += len(value)
	}
	return n
}

// parseOne reads the signature of one label.
func parseOne(input, value *httpsfv.Dictionary, label string) (*message, error) {
	member, _ := input.Get(label)
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return nil, errInput
	}
	m := &message{}
	if err := m.readComponents(list.Items); err != nil {
		return nil, err
	}
	if err := m.readParams(list.Params); err != nil {
		return nil, err
	}
	params, err := httpsfv.Marshal(list)
	if err != nil {
		return nil, errInput
	}
	m.params = params
	member, _ = value.Get(label)
	item, ok := member.(httpsfv.Item)
	if !ok {
		return nil, errValue
	}
	if m.mac, ok = item.Value.([]byte); !ok {
		return nil, errValue
	}
	return m, nil
}

func (m *message) readComponents(items []httpsfv.Item) error {
	if len(items) > maxComponents {
		return errTooLong
	}
	seen := map[string]bool{}
	for _, item := range items {
		name, ok := item.Value.(string)
		if !ok {
			return errInput
		}
		if len(item.Params.Names()) > 0 {
			return fmt.Errorf("the signature covers %q with parameters, which is not supported: cover the whole of it", name)
		}
		if err := checkComponent(name); err != nil {
			return fmt.Errorf("the signature covers %w", err)
		}
		if seen[name] {
			return fmt.Errorf("the signature covers %q twice", name)
		}
		seen[name] = true
		m.components = append(m.components, name)
	}
	return nil
}

func (m *message) readParams(params *httpsfv.Params) error {
	algorithm := ""
	for name, to := range map[string]*string{"keyid": &m.keyID, "nonce": &m.nonce, "alg": &algorithm} {
		value, given := params.Get(name)
		if !given {
			continue
		}
		text, ok := value.(string)
		if !ok || text == "" {
			return fmt.Errorf("the signature's parameter %q must be a string that is not empty", name)
		}
		*to = text
	}
	for name, to := range map[string]*int64{"created": &m.created, "expires": &m.expires} {
		value, given := params.Get(name)
		if !given {
			continue
		}
		n, ok := value.(int64)
		if !ok {
			return fmt.Errorf("the signature's parameter %q must be a whole number: seconds since 1970", name)
		}
		*to = n
	}
	_, m.hasExpires = params.Get("expires")
	_, hasCreated := params.Get("created")
	switch {
	case m.keyID == "" || len(m.keyID) > maxKeyID:
		return fmt.Errorf("the signature needs the parameter keyid, of at most %d characters", maxKeyID)
	case !hasCreated:
		return errors.New("the signature needs the parameter created: seconds since 1970")
	case algorithm != "" && algorithm != "hmac-sha256":
		return errors.New(`the signature's parameter alg must be "hmac-sha256", or left out`)
	case len(m.nonce) > maxNonce:
		return fmt.Errorf("the signature's nonce is longer than %d characters", maxNonce)
	}
	return nil
}

// checkComponent takes what a signature may cover. The error begins with the
// name.
func checkComponent(name string) error {
	if strings.HasPrefix(name, "@") {
		switch name {
		case "@method", "@authority", "@scheme", "@target-uri", "@request-target", "@path", "@query":
			return nil
		}
		return fmt.Errorf("%q, which is not supported; there is @method, @authority, @scheme, @target-uri, @request-target, @path and @query", name)
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return fmt.Errorf("%q, which is no name of a field in lower case", name)
		}
	}
	switch name {
	case "":
		return errors.New(`"", which is no name of a field`)
	case "signature", "signature-input":
		return fmt.Errorf("%q, which would be about itself", name)
	}
	return nil
}
