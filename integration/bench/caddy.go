//go:build linux

package main

import "context"

func caddyPeer() *peer {
	return &peer{
		name: "caddy", find: onPath("caddy"), version: []string{"version"}, does: gateway,
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			s, err := w.gatewaySettings("caddy", j)
			if err != nil {
				return nil, err
			}
			file, err := render(s.Dir, "Caddyfile", s)
			if err != nil {
				return nil, err
			}
			return w.gatewaySubject(ctx, "caddy", j, s, []string{"run", "--adapter", "caddyfile", "--config", file},
				"HOME="+s.Dir, "XDG_DATA_HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir)
		},
	}
}
