package wire

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/connect/wire/grammar"
)

// CheckField tells whether a field may be put into a header: its name is lower
// case and none of a pseudo-header field, its value has no control character and
// no space around.
func CheckField(name, value string) error {
	switch {
	case !grammar.IsName(name):
		return fmt.Errorf("field name %q is not valid", name)
	case !grammar.IsValue(grammar.Bytes(value)) || strings.Trim(value, " \t") != value:
		return fmt.Errorf("the value of field %q is not valid", name)
	}
	return nil
}

// Put sets a field as somebody may whom the configuration trusts with the
// request: a service that authorizes, a script. Pseudo-header fields change the
// request itself, and "host" is ":authority". What would not make a valid request
// is an error and changes nothing. Fields of the connection are left alone.
func (r *Request) Put(name, value string) error {
	ok := true
	switch name {
	case ":path":
		if ok = strings.HasPrefix(value, "/") && grammar.IsTarget(value); ok {
			r.Path = value
		}
	case ":authority", "host":
		if ok = value != "" && grammar.IsAuthority(value); ok {
			r.Authority = value
		}
	case ":method":
		if ok = grammar.IsToken(value) && value != "CONNECT" && r.Method != "CONNECT"; ok {
			r.Method = value
		}
	case ":scheme":
		if ok = value == "http" || value == "https"; ok {
			r.Scheme = value
		}
	default:
		if err := CheckField(name, value); err != nil {
			return err
		}
		if !grammar.Own(name) {
			r.Header.Set(name, value)
		}
	}
	if !ok {
		return fmt.Errorf("%q may not be %q", name, value)
	}
	return nil
}

// The fields in which the upstream learns of the authority that the client asked for.
const (
	forwardedHost = "x-forwarded-host"
	originalHost  = "x-envoy-original-host"
)

// SetHost gives the request another authority, and says in its fields which it had, as
// far as it is to.
func (r *Request) SetHost(host string, forwarded, original bool) {
	if forwarded {
		r.TellHost()
	}
	if original && !r.Header.Has(originalHost) {
		r.Header.Add(originalHost, r.Authority)
	}
	r.Authority = host
}

// TellHost appends the authority to what x-forwarded-host says, unless it is the last
// that it says.
func (r *Request) TellHost() {
	if r.Authority == "" {
		return
	}
	before := r.Header.Joined(forwardedHost)
	switch last := before[strings.LastIndexByte(before, ',')+1:]; {
	case before == "":
		r.Header.Set(forwardedHost, r.Authority)
	case last != r.Authority:
		r.Header.Set(forwardedHost, before+","+r.Authority)
	}
}
