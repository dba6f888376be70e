package jobs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	nomad "github.com/hashicorp/nomad/api"
)

// need is what an ACL token must be allowed for a call.
type need struct {
	capability string // of a namespace
	namespace  string
}

// String is for messages.
func (n need) String() string {
	return fmt.Sprintf("capability %q in namespace %q", n.capability, n.namespace)
}

// explain says of an error of a call what is to be done about it. It keeps the
// error within.
func (c *Client) explain(err error, needs need) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if answer, ok := errors.AsType[nomad.UnexpectedResponseError](err); ok && answer.HasStatusCode() {
		return c.refused(answer, needs)
	}
	return c.unreachable(err)
}

// refused explains what Nomad answered.
func (c *Client) refused(answer nomad.UnexpectedResponseError, needs need) error {
	text := strings.TrimSpace(answer.Body())
	has := func(part string) bool { return strings.Contains(strings.ToLower(text), part) }
	remedy := ""
	switch {
	case has("acl token not found"):
		remedy = "Nomad does not know the token: give another one with -token or NOMAD_TOKEN"
	case has("token expired"), has("acl token expired"):
		remedy = "the token has expired: get a new one, and give it with -token or NOMAD_TOKEN"
	case answer.StatusCode() == http.StatusForbidden && c.config.Token == "":
		remedy = "Nomad has ACLs and no token was given: give one with -token or NOMAD_TOKEN that has " + needs.String()
	case answer.StatusCode() == http.StatusForbidden:
		remedy = "the token needs " + needs.String() + `; a policy with namespace "` + needs.namespace + `" { policy = "write" } has it`
	case has("nonexistent namespace"), has("namespace not found"):
		remedy = `create it with "nomad namespace apply ` + needs.namespace + `", or name another one with -namespace or NOMAD_NAMESPACE`
	case has("no path to region"):
		remedy = "there is no such region: see \"nomad server members\", and correct -region, NOMAD_REGION or region in the job"
	case has("client sent an http request to an https server"):
		remedy = "Nomad speaks TLS: write https:// in -address or NOMAD_ADDR"
	case has("no cluster leader"):
		remedy = "Nomad's servers have no leader at the moment: look at \"nomad server members\", and try again"
	}
	err := fmt.Errorf("nomad at %s answered %d (%s)", c.config.Address, answer.StatusCode(), strings.Join(listed(text), "; "))
	if remedy != "" {
		return fmt.Errorf("%w: %s", err, remedy)
	}
	return err
}

// unreachable explains why there was no answer.
func (c *Client) unreachable(err error) error {
	cause := err
	if inner, ok := errors.AsType[*url.Error](err); ok {
		cause = inner.Err
	}
	remedy := "is the agent running? -address or NOMAD_ADDR says where it is"
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		lookup  *net.DNSError
	)
	switch text := cause.Error(); {
	case errors.As(cause, &unknown):
		remedy = "its certificate is of an authority that is not known here: give that one's certificate with -ca-cert or NOMAD_CACERT"
	case errors.As(cause, &name):
		remedy = "give the name in its certificate (for servers mostly server.REGION.nomad) with -tls-server-name or NOMAD_TLS_SERVER_NAME"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		remedy = "it speaks no TLS: write http:// in -address or NOMAD_ADDR"
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"):
		remedy = "it wants a certificate from us: give -client-cert and -client-key, or NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY"
	case errors.As(cause, &lookup):
		remedy = "its name is not known: correct -address or NOMAD_ADDR"
	case errors.Is(cause, context.DeadlineExceeded):
		remedy = "it does not answer: is it overloaded, or is a firewall in between? -address or NOMAD_ADDR says where it is"
	}
	return fmt.Errorf("nomad cannot be reached at %s: %w: %s", c.config.Address, cause, remedy)
}
