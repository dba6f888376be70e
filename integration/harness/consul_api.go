package harness

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"

	consulapi "github.com/hashicorp/consul/api"
)

// RegisterService registers a service at the agent. The token is kept with it: Consul reads with it what the proxy of
// the service needs. Empty is the management token.
func (c *Consul) RegisterService(ctx context.Context, service *consulapi.AgentServiceRegistration, token string) error {
	if token == "" {
		token = c.Token
	}
	opts := (consulapi.ServiceRegisterOpts{ReplaceExistingChecks: true, Token: token}).WithContext(ctx)
	if err := c.API.Agent().ServiceRegisterOpts(service, opts); err != nil {
		return fmt.Errorf("register service %s: %w", service.Name, err)
	}
	return nil
}

// DeregisterService takes a service off the agent, by its ID.
func (c *Consul) DeregisterService(ctx context.Context, id string) error {
	if err := c.API.Agent().ServiceDeregisterOpts(id, (&consulapi.QueryOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("deregister service %s: %w", id, err)
	}
	return nil
}

// WriteConfigEntry writes a config entry: proxy-defaults, a router, a gateway, ...
func (c *Consul) WriteConfigEntry(ctx context.Context, entry consulapi.ConfigEntry) error {
	if _, _, err := c.API.ConfigEntries().Set(entry, (&consulapi.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("write %s %s: %w", entry.GetKind(), entry.GetName(), err)
	}
	return nil
}

// Protocol sets the protocol of a service (service-defaults), which intentions with permissions and routers need.
func (c *Consul) Protocol(ctx context.Context, service, protocol string) error {
	return c.WriteConfigEntry(ctx, &consulapi.ServiceConfigEntry{Kind: consulapi.ServiceDefaults, Name: service, Protocol: protocol})
}

// Intention allows or denies source to call destination, and leaves the destination's other sources as they are. With
// permissions these decide (the first that matches; else the default), and allow is not looked at.
func (c *Consul) Intention(ctx context.Context, source, destination string, allow bool, permissions ...*consulapi.IntentionPermission) error {
	next := &consulapi.SourceIntention{Name: source, Permissions: permissions}
	switch {
	case len(permissions) > 0:
	case allow:
		next.Action = consulapi.IntentionActionAllow
	default:
		next.Action = consulapi.IntentionActionDeny
	}
	return c.changeIntentions(ctx, destination, func(sources []*consulapi.SourceIntention) []*consulapi.SourceIntention {
		return append(without(sources, source), next)
	})
}

// RemoveIntention takes the intention away, so that the default decides.
func (c *Consul) RemoveIntention(ctx context.Context, source, destination string) error {
	return c.changeIntentions(ctx, destination, func(sources []*consulapi.SourceIntention) []*consulapi.SourceIntention {
		return without(sources, source)
	})
}

func without(sources []*consulapi.SourceIntention, name string) []*consulapi.SourceIntention {
	return slices.DeleteFunc(sources, func(s *consulapi.SourceIntention) bool { return s.Name == name })
}

func (c *Consul) changeIntentions(ctx context.Context, destination string, change func([]*consulapi.SourceIntention) []*consulapi.SourceIntention) error {
	c.intentions.Lock()
	defer c.intentions.Unlock()
	entry := &consulapi.ServiceIntentionsConfigEntry{Kind: consulapi.ServiceIntentions, Name: destination}
	old, _, err := c.API.ConfigEntries().Get(entry.Kind, entry.Name, (&consulapi.QueryOptions{}).WithContext(ctx))
	status, _ := errors.AsType[consulapi.StatusError](err)
	if err != nil && status.Code != http.StatusNotFound {
		return fmt.Errorf("read intentions of %s: %w", destination, err)
	}
	if was, ok := old.(*consulapi.ServiceIntentionsConfigEntry); ok {
		entry = was
	}
	entry.Sources = change(entry.Sources)
	if len(entry.Sources) > 0 {
		return c.WriteConfigEntry(ctx, entry)
	}
	if _, err := c.API.ConfigEntries().Delete(entry.Kind, entry.Name, (&consulapi.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("delete intentions of %s: %w", destination, err)
	}
	return nil
}

// ServiceToken makes a token with the service identity of name: it may write the service and its sidecar and read all
// services and nodes. Without ACLs it is empty.
func (c *Consul) ServiceToken(ctx context.Context, name string) (string, error) {
	if c.Token == "" {
		return "", nil
	}
	token, _, err := c.API.ACL().TokenCreate(&consulapi.ACLToken{
		Description:       name,
		Local:             c.joined, // a token of all datacenters would have to come over first
		ServiceIdentities: []*consulapi.ACLServiceIdentity{{ServiceName: name}},
	}, (&consulapi.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("make token of %s: %w", name, err)
	}
	return token.SecretID, nil
}

// PolicyToken makes a token with these rules. Without ACLs it is empty.
func (c *Consul) PolicyToken(ctx context.Context, name, rules string) (string, error) {
	if c.Token == "" {
		return "", nil
	}
	write := (&consulapi.WriteOptions{}).WithContext(ctx)
	policy, _, err := c.API.ACL().PolicyCreate(&consulapi.ACLPolicy{Name: name, Rules: rules}, write)
	if err != nil {
		return "", fmt.Errorf("make policy %s: %w", name, err)
	}
	token, _, err := c.API.ACL().TokenCreate(&consulapi.ACLToken{
		Description: name, Policies: []*consulapi.ACLTokenPolicyLink{{ID: policy.ID}},
	}, write)
	if err != nil {
		return "", fmt.Errorf("make token of %s: %w", name, err)
	}
	return token.SecretID, nil
}

// WaitHealthy waits until the service has at least n instances of which every check passes.
func (c *Consul) WaitHealthy(ctx context.Context, service string, n int) error {
	return Until(ctx, fmt.Sprintf("%d healthy instances of %s", n, service), func(ctx context.Context) error {
		found, _, err := c.API.Health().Service(service, "", true, (&consulapi.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if len(found) < n {
			return fmt.Errorf("there are %d", len(found))
		}
		return nil
	})
}

// RotateCA gives the certificate authority a new key, hence a new root, cross-signed by the old. It returns the ID of
// the new root once that is the active one. Consul then spreads the new leaves over half a minute.
func (c *Consul) RotateCA(ctx context.Context) (string, error) {
	before, err := c.activeRoot(ctx)
	if err != nil {
		return "", fmt.Errorf("rotate the certificate authority: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return "", fmt.Errorf("rotate the certificate authority: %w", err)
	}
	config, _, err := c.API.Connect().CAGetConfig((&consulapi.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("rotate the certificate authority: %w", err)
	}
	config.Config["PrivateKey"], config.Config["RootCert"] = key, ""
	config.State = nil
	if _, err := c.API.Connect().CASetConfig(config, (&consulapi.WriteOptions{}).WithContext(ctx)); err != nil {
		return "", fmt.Errorf("rotate the certificate authority: %w", err)
	}
	after := before
	err = Until(ctx, "a new active root", func(ctx context.Context) error {
		if after, err = c.activeRoot(ctx); err != nil {
			return err
		}
		if after == before {
			return errors.New("it is still the old one")
		}
		return nil
	})
	return after, err
}

func (c *Consul) activeRoot(ctx context.Context) (string, error) {
	roots, _, err := c.API.Agent().ConnectCARoots((&consulapi.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return "", err
	}
	return roots.ActiveRootID, nil
}

// newKey is a private key as Consul takes it: PEM of an EC key.
func newKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), nil
}
