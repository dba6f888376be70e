//go:build linux

package main

import "context"

func envoyPeer() *peer {
	return &peer{
		name: "envoy", find: pinned("envoy"), version: []string{"--version"}, does: anything,
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			if j.scenario.pair != "" {
				return w.staticPair(ctx, "envoy", j, "envoy-pair.yaml", envoyArgs)
			}
			s, err := w.gatewaySettings("envoy", j)
			if err != nil {
				return nil, err
			}
			file, err := render(s.Dir, "envoy.yaml", s)
			if err != nil {
				return nil, err
			}
			return w.gatewaySubject(ctx, "envoy", j, s, envoyArgs(file))
		},
	}
}

func envoyArgs(file string) []string {
	return []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warn"}
}
