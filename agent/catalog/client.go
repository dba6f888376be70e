package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
)

// NewClient makes a client for Consul's HTTP API. It reads the files that c
// names and calls nobody. What c does not give is taken from Consul's own
// environment variables, which the library reads.
func NewClient(c Config) (*api.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	config := &api.Config{
		Address: c.Address, Token: c.Token, TokenFile: c.TokenFile,
		Datacenter: c.Datacenter, Namespace: c.Namespace,
		TLSConfig: api.TLSConfig{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, Address: c.ServerName},
	}
	if c.SSL {
		config.Scheme = "https"
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("%sconsul: %w", prefix(c.Pos), err)
	}
	return client, nil
}

func prefix(position string) string {
	if position == "" {
		return ""
	}
	return position + ": "
}

// Explain says what an error of Consul's API means and what to do about it.
// needs are the permissions that the call takes, such as `service:read on "web"`,
// if they are known. A nil err gives nil.
func Explain(err error, needs ...string) error {
	var status api.StatusError
	var call *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return explainStatus(status, err, needs)
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &call):
		address := call.URL
		if parsed, parseErr := url.Parse(call.URL); parseErr == nil {
			address = parsed.Host
		}
		return &unreachableError{address: address, err: innermost(call)}
	case errors.Is(err, io.EOF), isNoJSON(err):
		return fmt.Errorf("consul: the answer is none of Consul's: is -http-addr, CONSUL_HTTP_ADDR or consul { address } that of an agent? (%w)", err)
	default:
		return fmt.Errorf("consul: %w", err)
	}
}

// isNoJSON tells whether an answer was something else than Consul's JSON.
func isNoJSON(err error) bool {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &wrong)
}

func explainStatus(status api.StatusError, err error, needs []string) error {
	body := strings.TrimSpace(status.Body)
	switch {
	case status.Code == http.StatusForbidden && strings.Contains(body, "ACL not found"):
		return fmt.Errorf("consul does not know the token; give another by -token, CONSUL_HTTP_TOKEN or consul { token }: %w", err)
	case status.Code == http.StatusForbidden, status.Code == http.StatusUnauthorized:
		if len(needs) == 0 {
			return fmt.Errorf("consul denies it, the token lacks a permission: %w", err)
		}
		return fmt.Errorf("consul denies it, the token needs %s: %w", strings.Join(needs, " and "), err)
	case strings.Contains(body, "No cluster leader"):
		return fmt.Errorf("consul has no leader at the moment: %w", err)
	case status.Code == http.StatusTooManyRequests:
		return fmt.Errorf("consul limits the rate of requests: %w", err)
	default:
		return fmt.Errorf("consul: %w", err)
	}
}

// unreachableError is an agent that does not answer.
type unreachableError struct {
	address string
	err     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("consul cannot be reached at %s (is the agent running, and is -http-addr, CONSUL_HTTP_ADDR or consul { address } right?): %v",
		e.address, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// innermost takes the URL, which is long and says nothing new, off an error.
func innermost(call *url.Error) error {
	if op, ok := errors.AsType[*net.OpError](call.Err); ok {
		return op
	}
	return call.Err
}

// IsNotFound tells whether Consul answered that there is no such thing.
func IsNotFound(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}
