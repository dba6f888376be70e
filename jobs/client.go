package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	nomad "github.com/hashicorp/nomad/api"
)

const (
	// DefaultAddress is that of an agent on this machine.
	DefaultAddress = "http://127.0.0.1:4646"
	// callTimeout bounds one call that is not meant to wait.
	callTimeout = 30 * time.Second
)

// Config says how to reach Nomad. The zero value is the agent on this machine,
// without ACLs and TLS.
type Config struct {
	// Address is http://host:port, https://host:port or unix:///path; "" is
	// DefaultAddress.
	Address string
	// Region and Namespace of jobs that do not name theirs; "" is the agent's
	// region, and "default".
	Region, Namespace string
	// Token is an ACL token; "" is the anonymous one.
	Token string
	// CACert is a file, CAPath a folder, of PEM certificates that verify the
	// agent's.
	CACert, CAPath string
	// ClientCert and ClientKey are PEM files with what we show the agent.
	ClientCert, ClientKey string
	// TLSServerName is the name in the agent's certificate, if it is not that in
	// Address.
	TLSServerName string
	// TLSSkipVerify believes any certificate.
	TLSSkipVerify bool
}

func (c *Config) validate() error {
	address, err := url.Parse(c.Address)
	if err != nil || !slices.Contains([]string{"http", "https", "unix"}, address.Scheme) {
		return fmt.Errorf("-address %q must begin with http://, https:// or unix://, such as %s", c.Address, DefaultAddress)
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		return fmt.Errorf("-client-cert and -client-key go together: give both or none")
	}
	return nil
}

// Client asks one Nomad. Its methods may be called at the same time.
type Client struct {
	// set by NewClient
	config Config
	api    *nomad.Client
}

// NewClient makes a client. It connects when it is first asked something.
func NewClient(c Config) (*Client, error) {
	c.Address = cmp.Or(c.Address, DefaultAddress)
	if err := c.validate(); err != nil {
		return nil, err
	}
	api, err := nomad.NewClient(&nomad.Config{
		Address: c.Address, Region: c.Region, SecretID: c.Token, Namespace: c.Namespace,
		TLSConfig: &nomad.TLSConfig{
			CACert: c.CACert, CAPath: c.CAPath, ClientCert: c.ClientCert, ClientKey: c.ClientKey,
			TLSServerName: c.TLSServerName, Insecure: c.TLSSkipVerify,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make nomad client: %w", err)
	}
	return &Client{config: c, api: api}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.api.Close() }

// Job is a job as Nomad has parsed it, with the text that it is from.
type Job struct {
	// ID, Namespace and Region by which Nomad knows it. Region is "" if it is
	// the agent's.
	ID, Namespace, Region string

	// set by Load
	file   *File
	values *Values
	spec   *nomad.Job
}

func (j *Job) query(ctx context.Context) *nomad.QueryOptions {
	return (&nomad.QueryOptions{Region: j.Region, Namespace: j.Namespace}).WithContext(ctx)
}

func (j *Job) write(ctx context.Context) *nomad.WriteOptions {
	return (&nomad.WriteOptions{Region: j.Region, Namespace: j.Namespace}).WithContext(ctx)
}

// Load has Nomad parse a file with its values. What Nomad finds wrong in the
// text is told as [Errors].
func (c *Client) Load(ctx context.Context, file *File, values *Values) (*Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := &nomad.JobsParseRequest{JobHCL: string(file.Text), Variables: values.Text()}
	spec := &nomad.Job{}
	options := (&nomad.WriteOptions{Region: c.config.Region, Namespace: c.config.Namespace}).WithContext(ctx)
	if _, err := c.api.Raw().Write("/v1/jobs/parse", request, spec, options); err != nil {
		if answer, ok := errors.AsType[nomad.UnexpectedResponseError](err); ok {
			if wrong := parseErrors(file, answer.Body()); len(wrong) > 0 {
				return nil, wrong
			}
		}
		return nil, fmt.Errorf("parse %s: %w", file.Name,
			c.explain(err, need{"parse-job", cmp.Or(c.config.Namespace, nomad.DefaultNamespace)}))
	}
	// What the job itself says wins, as with nomad's own command line.
	if spec.Namespace == nil {
		spec.Namespace = new(cmp.Or(c.config.Namespace, nomad.DefaultNamespace))
	}
	if spec.Region == nil && c.config.Region != "" {
		spec.Region = new(c.config.Region)
	}
	j := &Job{Namespace: *spec.Namespace, file: file, values: values, spec: spec}
	if spec.Region != nil {
		j.Region = *spec.Region
	}
	spec.Canonicalize()
	j.ID = *spec.ID
	return j, nil
}
