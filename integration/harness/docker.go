package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// dockerScript hides what an engine leaves in the folders that it cannot be told to take elsewhere.
const dockerScript = `mkdir -p /run/docker && mount -t tmpfs tmpfs /run/docker && exec "$@"`

// Docker says what a Docker engine is to be started for Nomad's docker driver. It reaches no registry.
type Docker struct {
	Engine string   // path of dockerd
	Images []string // archives, as of docker save
	Infra  string   // the name of the image among them by which Nomad holds the network of an allocation
}

// dockerHost is where the engine listens, as the namespace sees it.
const dockerHost = "unix:///mnt/docker.sock"

// docker starts a Docker engine in the namespace.
func (e *Env) docker(ctx context.Context, space *Namespace, config *Docker) error {
	dir := filepath.Join(e.dir, "docker")
	// An empty configuration, so that the machine's own is not read.
	if err := writeFiles(dir, map[string]string{"daemon.json": "{}"}); err != nil {
		return fmt.Errorf("start docker: %w", err)
	}
	engine, err := e.Start(Command{Name: "dockerd", Path: "/bin/sh", Namespace: space, Args: []string{
		"-c", dockerScript, "docker", config.Engine,
		"--host", dockerHost, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--storage-driver", "vfs", "--cgroup-parent", "/" + e.cgroup(),
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--config-file", filepath.Join(dir, "daemon.json"),
	}})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(e.dir, "mnt", "docker.sock"))
		},
	}}
	ctx, cancel := bounded(ctx, 60*time.Second)
	defer cancel()
	if err := Until(ctx, "docker", func(ctx context.Context) error {
		select {
		case <-engine.Done():
			return engine.gone()
		default:
			return call(ctx, client, http.MethodGet, "/_ping", http.NoBody)
		}
	}); err != nil {
		return err
	}
	for _, archive := range config.Images {
		if err := load(ctx, client, archive); err != nil {
			return err
		}
	}
	return nil
}

// load is what `docker load` does.
func load(ctx context.Context, client *http.Client, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	defer file.Close()
	if err := call(ctx, client, http.MethodPost, "/images/load", file); err != nil {
		return fmt.Errorf("load image %s: %w", archive, err)
	}
	return nil
}

func call(ctx context.Context, client *http.Client, method, path string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	// What goes wrong after the first bytes of an answer is told in it.
	if err == nil && (resp.StatusCode != http.StatusOK || bytes.Contains(text, []byte("errorDetail"))) {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return err
}
