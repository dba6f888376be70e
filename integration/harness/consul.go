package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	consulapi "github.com/hashicorp/consul/api"
)

const (
	consulStart = 60 * time.Second
	sidecars    = 20 // ports for sidecars registered without one
)

// ConsulConfig says what Consul to start. The zero value is what most tests want: one server, ACLs on, default deny.
type ConsulConfig struct {
	Name      string     // of the node, its log and its folder, one of a kind in the Env; empty: "consul"
	NoACL     bool       // no ACLs: all is allowed, intentions too
	HCL       string     // added to the configuration, and wins over it
	Token     string     // the management token, of another datacenter that this one joins; empty: a new one
	DualStack bool       // bound to IPv6, and told where it is itself, by which Consul decides what it tells proxies
	Namespace *Namespace // to run in; nil: where this process runs
	GRPCPort  int        // 0: one of the Env's
}

// Consul is a Consul server agent. Its addresses, its tokens and its data stay over Stop and Start.
type Consul struct {
	HTTPAddr string            // host:port
	GRPCAddr string            // host:port of xDS, plaintext
	DNSAddr  string            // host:port, UDP and TCP
	Node     string            // name of the node
	Token    string            // the management token; empty without ACLs
	API      *consulapi.Client // with Token

	// set by Env.Consul
	env     *Env
	path    string
	args    []string
	space   *Namespace
	environ []string
	client  *http.Client
	joined  bool // to another datacenter, which has the ACLs

	// mu guards:
	mu      sync.Mutex
	process *Process

	intentions sync.Mutex // held while an intention is changed
}

// Consul starts a Consul agent and waits until it is ready.
func (e *Env) Consul(ctx context.Context, config ConsulConfig) (*Consul, error) {
	if config.Name == "" {
		config.Name = "consul"
	}
	path, err := e.Tool("consul")
	if err != nil {
		return nil, err
	}
	first, err := e.Ports(consulPorts)
	if err != nil {
		return nil, err
	}
	host := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i)) }
	config.GRPCPort = cmp.Or(config.GRPCPort, first+portGRPC)
	c := &Consul{
		HTTPAddr: host(portHTTP), GRPCAddr: net.JoinHostPort("127.0.0.1", strconv.Itoa(config.GRPCPort)), DNSAddr: host(portDNS),
		Node: config.Name, env: e, path: path, space: config.Namespace, joined: config.Token != "",
	}
	if !config.NoACL {
		c.Token = cmp.Or(config.Token, newToken())
	}
	if config.DualStack {
		c.environ = c.Environ(c.Token)
	}
	if err := c.newClient(); err != nil {
		return nil, err
	}
	dir := filepath.Join(e.dir, config.Name)
	if _, err := os.Stat(dir); err == nil {
		return nil, fmt.Errorf("start %s: there is one of that name, give this one another", config.Name)
	}
	if err := writeFiles(dir, map[string]string{
		"1-harness.json": consulFile(config, first, filepath.Join(dir, "data"), c.Token),
		"2-test.hcl":     config.HCL,
	}); err != nil {
		return nil, fmt.Errorf("configure %s: %w", config.Name, err)
	}
	c.args = []string{"agent", "-config-file", filepath.Join(dir, "1-harness.json"), "-config-file", filepath.Join(dir, "2-test.hcl")}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Start starts the agent again after Stop or Kill, with its ports and its data, and waits until it is ready.
func (c *Consul) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		return fmt.Errorf("start %s: it runs already", c.Node)
	}
	process, err := c.env.Start(Command{Name: c.Node, Path: c.path, Args: c.args, Env: c.environ, Namespace: c.space})
	if err != nil {
		return err
	}
	c.process = process
	return c.waitReady(ctx, process)
}

// Stop ends the agent by SIGTERM. Its data stay; it does not leave, so that its services stay in its state.
func (c *Consul) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	err := c.process.Stop(ctx)
	c.process = nil
	return err
}

// Kill ends the agent by SIGKILL.
func (c *Consul) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	err := c.process.Kill()
	c.process = nil
	return err
}

// Process is the running agent, or nil.
func (c *Consul) Process() *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// Environ is what steers the consul commands and ours to this agent, with the given token.
func (c *Consul) Environ(token string) []string {
	return []string{"CONSUL_HTTP_ADDR=" + c.HTTPAddr, "CONSUL_GRPC_ADDR=" + c.GRPCAddr, "CONSUL_HTTP_TOKEN=" + token}
}

// Client is an API client with the given token.
func (c *Consul) Client(token string) (*consulapi.Client, error) {
	client, err := consulapi.NewClient(&consulapi.Config{Address: c.HTTPAddr, Scheme: "http", Token: token, HttpClient: c.client})
	if err != nil {
		return nil, fmt.Errorf("make client of %s: %w", c.Node, err)
	}
	return client, nil
}

func (c *Consul) newClient() (err error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	if c.space != nil {
		transport.DialContext = c.space.DialContext
	}
	c.client = &http.Client{Transport: transport}
	c.env.OnClose(func(context.Context) error {
		transport.CloseIdleConnections()
		return nil
	})
	c.API, err = c.Client(c.Token)
	return err
}

// waitReady waits for a leader with a certificate authority, a token that works, the agent's own node in the catalog
// and an open xDS port.
func (c *Consul) waitReady(ctx context.Context, process *Process) error {
	ctx, cancel := bounded(ctx, consulStart)
	defer cancel()
	return Until(ctx, c.Node+" to be ready", func(ctx context.Context) error {
		select {
		case <-process.Done():
			return process.gone()
		default:
		}
		if leader, err := c.API.Status().LeaderWithQueryOptions((&consulapi.QueryOptions{}).WithContext(ctx)); err != nil || leader == "" {
			return errors.Join(errors.New("no leader"), err)
		}
		query := (&consulapi.QueryOptions{}).WithContext(ctx)
		if node, _, err := c.API.Catalog().Node(c.Node, query); err != nil || node == nil {
			return errors.Join(errors.New("node is not in the catalog"), err)
		}
		if roots, _, err := c.API.Agent().ConnectCARoots(query); err != nil || roots.ActiveRootID == "" {
			return errors.Join(errors.New("no certificate authority"), err)
		}
		conn, err := c.dial(ctx, c.GRPCAddr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func (c *Consul) dial(ctx context.Context, addr string) (net.Conn, error) {
	if c.space != nil {
		return c.space.DialContext(ctx, "tcp", addr)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", addr)
}

// writeFiles writes files into a folder, which it makes.
func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
