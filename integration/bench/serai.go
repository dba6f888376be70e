//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

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
			note := ""
			dir, err := edgeFolder(s)
			if err == nil && j.scenario.backend == backendH2 && !valid(ctx, j.path, dir) {
				// an edge that has HTTP/2 only in front is measured with that
				if note, err = w.plainBehind(ctx, j, s); err != nil {
					return nil, err
				}
				dir, err = edgeFolder(s)
			}
			if err != nil {
				return nil, err
			}
			subject, err := w.gatewaySubject(ctx, ours, j, s, []string{"edge", "-config", dir, "-log-level", "warn"})
			if err == nil {
				subject.note = note
			}
			return subject, err
		},
	}
}

// valid says whether an edge takes a configuration.
func valid(ctx context.Context, path, dir string) bool {
	return exec.CommandContext(ctx, path, "edge", "-validate", "-config", dir).Run() == nil
}

// edgeFolder writes the edge's configuration: the routes in files of a thousand, as one would by hand.
func edgeFolder(s *settings) (string, error) {
	dir := filepath.Join(s.Dir, "edge")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	if _, err := render(dir, "edge.hcl", s); err != nil {
		return "", err
	}
	n := 0
	for routes := range slices.Chunk(s.Routes, 1000) {
		part := *s
		part.Routes = routes
		file, err := render(dir, "edge-api.hcl", struct {
			*settings
			Name string
		}{&part, fmt.Sprintf("bench-%d", n)})
		if err != nil {
			return "", err
		}
		if err := os.Rename(file, filepath.Join(dir, fmt.Sprintf("api-%d.hcl", n))); err != nil {
			return "", fmt.Errorf("write routes: %w", err)
		}
		n++
	}
	return dir, nil
}
