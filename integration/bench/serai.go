//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/serai-net/serai/integration/harness"
)

// findSerai is bin/serai, or what SERAI_BINARY says.
func findSerai(*world) (string, error) {
	if path := os.Getenv("SERAI_BINARY"); path != "" {
		return path, nil
	}
	root, err := harness.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "serai")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find serai: %w: run make build", err)
	}
	return path, nil
}

func seraiPeer() *peer {
	return &peer{
		name: ours, find: findSerai, version: []string{"--version"}, does: anything,
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			if j.scenario.pair != "" {
				return w.meshPair(ctx, ours, j, func(id string) []string {
					return []string{"connect", "-sidecar-for", id, "-log-level", "warn"}
				})
			}
			s, err := w.gatewaySettings(ours, j)
			if err != nil {
				return nil, err
			}
			file, err := render(s.Dir, "edge.hcl", s)
			if err != nil {
				return nil, err
			}
			return w.gatewaySubject(ctx, ours, j, s, []string{"edge", "-config", file, "-log-level", "warn"})
		},
	}
}
