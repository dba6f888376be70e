//go:build linux

package main

import "context"

func traefikPeer() *peer {
	return &peer{
		name: "traefik", find: onPath("traefik"), version: []string{"version"}, does: gateway,
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			s, err := w.gatewaySettings("traefik", j)
			if err != nil {
				return nil, err
			}
			if _, err := render(s.Dir, "traefik-routes.yaml", s); err != nil {
				return nil, err
			}
			file, err := render(s.Dir, "traefik.yaml", s)
			if err != nil {
				return nil, err
			}
			return w.gatewaySubject(ctx, "traefik", j, s, []string{"--configFile=" + file})
		},
	}
}
