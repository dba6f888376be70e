package lambda

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

// Credentials are those of the machine: of the environment, else of the container's
// agent, else of the instance. They are looked for at the first use, and anew
// before they expire. It is safe for concurrent use.
type Credentials struct {
	// Getenv reads the environment.
	Getenv func(name string) string

	once   sync.Once
	source aws.CredentialsProvider
	err    error
}

// Retrieve implements aws.CredentialsProvider.
func (c *Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c == nil {
		return aws.Credentials{}, errors.New("there are none")
	}
	c.once.Do(func() { c.source, c.err = c.find() })
	if c.err != nil {
		return aws.Credentials{}, c.err
	}
	return c.source.Retrieve(ctx)
}

// agentHost is where a container's agent answers.
const agentHost = "http://169.254.170.2"

func (c *Credentials) find() (aws.CredentialsProvider, error) {
	if key, secret := c.Getenv("AWS_ACCESS_KEY_ID"), c.Getenv("AWS_SECRET_ACCESS_KEY"); key != "" && secret != "" {
		fixed := aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: c.Getenv("AWS_SESSION_TOKEN"), Source: "environment"}
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return fixed, nil }), nil
	}
	endpoint := c.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := c.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		endpoint = agentHost + "/" + strings.TrimPrefix(relative, "/")
	}
	if endpoint != "" {
		if err := trusted(endpoint); err != nil {
			return nil, err
		}
		return aws.NewCredentialsCache(endpointcreds.New(endpoint, func(o *endpointcreds.Options) {
			o.AuthorizationToken = c.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
			if file := c.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
				o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
					token, err := os.ReadFile(file)
					return strings.TrimSpace(string(token)), err
				})
			}
		})), nil
	}
	if strings.EqualFold(c.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return nil, errors.New("there are none in the environment, and the instance is not to be asked")
	}
	return aws.NewCredentialsCache(ec2rolecreds.New()), nil
}

// trusted tells whether secrets may be asked for at endpoint: by TLS, or of this
// machine or its container's agent.
func trusted(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("the container's agent: %w", err)
	}
	address, _ := netip.ParseAddr(u.Hostname())
	switch {
	case u.Scheme == "https", u.Hostname() == "localhost", address.IsLoopback():
	case address == netip.MustParseAddr("169.254.170.2"), address == netip.MustParseAddr("169.254.170.23"), address == netip.MustParseAddr("fd00:ec2::23"):
	default:
		return fmt.Errorf("the container's agent: credentials are not asked for at %s without TLS", u.Host)
	}
	return nil
}
