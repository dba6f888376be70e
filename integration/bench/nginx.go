//go:build linux

package main

import "context"

func nginxPeer() *peer {
	return &peer{
		name: "nginx", find: onPath("nginx"), version: []string{"-v"}, does: gateway,
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			s, err := w.gatewaySettings("nginx", j)
			if err != nil {
				return nil, err
			}
			back := 0
			if j.scenario.backend == backendH2 { // it has no HTTP/2 to the upstream but for gRPC
				plain := *j.scenario
				plain.backend = ""
				if back, _, err = w.startBackend(ctx, &plain); err != nil {
					return nil, err
				}
				s.Clusters[0].Hosts[0].Port = back
			}
			file, err := render(s.Dir, "nginx.conf", s)
			if err != nil {
				return nil, err
			}
			subject, err := w.gatewaySubject(ctx, "nginx", j, s, []string{"-p", s.Dir, "-e", s.Dir + "/error.log", "-c", file})
			if err == nil && back != 0 {
				subject.note = "HTTP/1.1 to the backend"
			}
			return subject, err
		},
	}
}
