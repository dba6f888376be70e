package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	nomadapi "github.com/hashicorp/nomad/api"
)

// nomadFile is the agent's configuration.
func (e *Env) nomadFile(config NomadConfig, consul *Consul) (string, error) {
	cni, err := e.Tool("cni")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
name                 = "nomad"
log_level            = "INFO"
disable_update_check = true
leave_on_terminate   = false

consul {
  address      = %[1]q
  grpc_address = %[2]q
  token        = %[3]q
`, consul.HTTPAddr, consul.GRPCAddr, consul.Token)
	if config.ConsulACL {
		b.WriteString(`
  service_identity {
    aud = ["consul.io"]
    ttl = "1h"
  }
  task_identity {
    aud = ["consul.io"]
    ttl = "1h"
  }
`)
	}
	fmt.Fprintf(&b, `}

acl {
  enabled = %t
}

client {
  cni_path      = %q
  cgroup_parent = %q
  alloc_dir     = "/mnt/a" # a short path, since sockets are in it
  state_dir     = "/mnt/state"
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean" # they ask the network and wait
  }
  chroot_env {
`, config.ACL, strings.Join(append([]string{cni}, config.CNI...), string(filepath.ListSeparator)), e.cgroup())
	chroot, err := e.chroot()
	if err != nil {
		return "", err
	}
	maps.Copy(chroot, config.Chroot)
	for _, here := range slices.Sorted(maps.Keys(chroot)) {
		fmt.Fprintf(&b, "    %q = %q\n", here, chroot[here])
	}
	b.WriteString("  }\n}\n\nplugin \"raw_exec\" {\n  config {\n    enabled = true\n  }\n}\n")
	if config.Docker != nil {
		fmt.Fprintf(&b, "\nplugin \"docker\" {\n  config {\n    endpoint    = %q\n    infra_image = %q\n  }\n}\n", dockerHost, config.Docker.Infra)
	}
	return b.String(), nil
}

// chroot is what a task of the exec driver sees.
func (e *Env) chroot() (map[string]string, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	fortio, err := e.Tool("fortio")
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		filepath.Join(root, "bin", "serai"): "/usr/local/bin/serai",
		fortio:                              "/usr/local/bin/fortio",
	}
	same := []string{"/etc/passwd", "/etc/group", "/etc/ssl/certs", "/bin/sh", "/bin/sleep", "/bin/cat", "/bin/ls", "/bin/env"}
	for _, pattern := range []string{"/lib64/ld-linux-*", "/lib/ld-linux-*", "/lib/*/libc.so.6", "/lib/*/libselinux.so.1", "/lib/*/libpcre2-8.so.0"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		same = append(same, found...)
	}
	for _, file := range same {
		files[file] = file
	}
	real := map[string]string{}
	for here, there := range files {
		if here, err := filepath.EvalSymlinks(here); err == nil { // Nomad copies a link as a link; what is not here is left out
			real[here] = there
		}
	}
	return real, nil
}

// cgroup is the name of the group below which Nomad makes its own.
func (e *Env) cgroup() string { return filepath.Base(e.dir) + ".slice" }

// bootstrap makes the first token, as soon as there is a leader.
func (n *Nomad) bootstrap(ctx context.Context) error {
	ctx, cancel := bounded(ctx, nomadStart)
	defer cancel()
	return Until(ctx, "nomad's first token", func(ctx context.Context) error {
		select {
		case <-n.process.Done():
			return n.process.gone()
		default:
		}
		token, _, err := n.API.ACLTokens().Bootstrap((&nomadapi.WriteOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		n.Token = token.SecretID
		n.API.SetSecretID(n.Token)
		return nil
	})
}

// waitReady waits for a node that has what jobs with a sidecar need.
func (n *Nomad) waitReady(ctx context.Context, config NomadConfig) error {
	drivers := []string{"exec", "raw_exec"}
	if config.Docker != nil {
		drivers = append(drivers, "docker")
	}
	ctx, cancel := bounded(ctx, nomadStart)
	defer cancel()
	return Until(ctx, "nomad to be ready", func(ctx context.Context) error {
		select {
		case <-n.process.Done():
			return n.process.gone()
		default:
		}
		query := (&nomadapi.QueryOptions{}).WithContext(ctx)
		nodes, _, err := n.API.Nodes().List(query)
		if err != nil {
			return err
		}
		if len(nodes) == 0 || nodes[0].Status != nomadapi.NodeStatusReady {
			return errors.New("no node is ready")
		}
		node, _, err := n.API.Nodes().Info(nodes[0].ID, query)
		if err != nil {
			return err
		}
		for _, attr := range []string{"consul.version", "consul.grpc", "plugins.cni.version.bridge"} {
			if node.Attributes[attr] == "" {
				return fmt.Errorf("the node has no %s", attr)
			}
		}
		for _, driver := range drivers {
			if info := node.Drivers[driver]; info == nil || !info.Healthy {
				return fmt.Errorf("the driver %s is not healthy", driver)
			}
		}
		return nil
	})
}

// setupConsul lets Consul accept the identities of Nomad's workloads, by Nomad's own command.
func (n *Nomad) setupConsul(ctx context.Context, path string) error {
	setup, err := n.env.Start(Command{
		Name: "nomad-setup-consul", Path: path, Namespace: n.Namespace,
		Args: []string{"setup", "consul", "-y", "-jwks-url", nomadAddr + "/.well-known/jwks.json"},
		Env:  append(n.Consul.Environ(n.Consul.Token), "NOMAD_ADDR="+nomadAddr, "NOMAD_TOKEN="+n.Token),
	})
	if err != nil {
		return err
	}
	if err := setup.Wait(ctx); err != nil {
		return fmt.Errorf("set up workload identity: %w: %s", err, setup.Log())
	}
	return nil
}
