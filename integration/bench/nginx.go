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
			note := ""
			if j.scenario.backend == backendH2 { // it speaks HTTP/2 to upstreams only for gRPC
				if note, err = w.plainBehind(ctx, j, s); err != nil {
					return nil, err
				}
			}
			file, err := render(s.Dir, "nginx.conf", s)
			if err != nil {
				return nil, err
			}
			subject, err := w.gatewaySubject(ctx, "nginx", j, s, []string{"-p", s.Dir, "-e", s.Dir + "/error.log", "-c", file})
			if err == nil {
				subject.note = note
			}
			return subject, err
		},
	}
}

// plainBehind puts a backend of HTTP/1.1 behind a proxy that speaks HTTP/2 only in front, and gives the remark on that.
func (w *world) plainBehind(ctx context.Context, j *job, s *settings) (note string, err error) {
	plain := *j.scenario
	plain.backend = ""
	port, _, err := w.startBackend(ctx, &plain)
	if err != nil {
		return "", err
	}
	s.BackH2 = false
	c := &s.Clusters[0]
	c.Hosts[0].Port = port
	s.ByName[c.Name] = *c
	return "HTTP/1.1 to the backend", nil
}
