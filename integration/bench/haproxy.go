//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func haproxyPeer() *peer {
	return &peer{
		name: "haproxy", find: onPath("haproxy"), version: []string{"-v"}, does: anything,
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			if j.scenario.pair != "" {
				return w.staticPair(ctx, "haproxy", j, "haproxy-pair.cfg", haproxyArgs)
			}
			s, err := w.gatewaySettings("haproxy", j)
			if err != nil {
				return nil, err
			}
			if len(s.Routes) > 1 {
				var b strings.Builder
				for _, r := range s.Routes {
					fmt.Fprintf(&b, "%s %s\n", r.Prefix, r.Cluster)
				}
				s.Map = filepath.Join(s.Dir, "routes.map")
				if err := os.WriteFile(s.Map, []byte(b.String()), 0o600); err != nil {
					return nil, fmt.Errorf("write routes: %w", err)
				}
			}
			file, err := render(s.Dir, "haproxy.cfg", s)
			if err != nil {
				return nil, err
			}
			return w.gatewaySubject(ctx, "haproxy", j, s, haproxyArgs(file))
		},
	}
}

func haproxyArgs(file string) []string { return []string{"-db", "-f", file} }

// pairSettings are what templates of sidecars are filled with.
type pairSettings struct {
	Port   int
	Out    bool // the application's side: mTLS goes out
	To     string
	ToPort int
	L7     bool
	H2     bool
	Cert   string
	Key    string
	Pem    string
	CA     string
	Peer   string // SPIFFE ID of the other side
}

// staticPair starts two sidecars with certificates and configurations of ours.
func (w *world) staticPair(ctx context.Context, name string, j *job, template string, args func(file string) []string) (*subject, error) {
	ports, err := w.env.Ports(2)
	if err != nil {
		return nil, err
	}
	out := &subject{addr: local(ports)}
	protocol := j.scenario.pair
	for i, side := range []pairSettings{
		{Port: ports, Out: true, ToPort: ports + 1, Cert: w.front.Cert, Key: w.front.Key, Pem: w.front.Pem, Peer: w.back.URI},
		{Port: ports + 1, ToPort: j.backend, Cert: w.back.Cert, Key: w.back.Key, Pem: w.back.Pem, Peer: w.front.URI},
	} {
		side.To, side.CA = local(side.ToPort), w.ca.file
		side.L7, side.H2 = protocol != "tcp", protocol == "http2"
		dir, err := w.folder(name)
		if err != nil {
			return nil, err
		}
		file, err := render(dir, template, side)
		if err != nil {
			return nil, err
		}
		process, err := w.start(fmt.Sprintf("%s-%d", name, i), j.path, args(file), nil)
		if err != nil {
			return nil, err
		}
		out.processes = append(out.processes, process)
		if err := waitAccept(ctx, process, local(side.Port)); err != nil {
			return nil, err
		}
	}
	return out, nil
}
