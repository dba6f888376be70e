//go:build linux

package main

import (
	"context"
	"embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

//go:embed config
var configFiles embed.FS

// world is what all scenarios share.
type world struct {
	env    *harness.Env
	cores  *cores
	ca     *authority
	server *certificate
	front  *certificate // of a pair's first sidecar
	back   *certificate // of its second
	consul *harness.Consul
	count  int // of folders
}

func newWorld(logf func(string, ...any)) (*world, error) {
	cores, err := claimCores()
	if err != nil {
		return nil, err
	}
	env, err := harness.New("bench", logf)
	if err != nil {
		return nil, err
	}
	w := &world{env: env, cores: cores}
	if err := w.certify(); err != nil {
		_ = env.Close() // the first error tells
		return nil, err
	}
	return w, nil
}

func (w *world) certify() (err error) {
	if w.ca, err = newAuthority(w.env.Dir()); err != nil {
		return err
	}
	if w.server, err = w.ca.issue(serverName, ""); err != nil {
		return err
	}
	if w.front, err = w.ca.issue("web", "web"); err != nil {
		return err
	}
	w.back, err = w.ca.issue("api", "api")
	return err
}

// mesh is a Consul, started when it is first asked for. Anybody may call anybody in it.
func (w *world) mesh(ctx context.Context) (*harness.Consul, error) {
	if w.consul != nil {
		return w.consul, nil
	}
	var err error
	w.consul, err = w.env.Consul(ctx, harness.ConsulConfig{NoACL: true})
	return w.consul, err
}

// folder makes a folder for one proxy in one scenario.
func (w *world) folder(name string) (string, error) {
	w.count++
	dir := filepath.Join(w.env.Dir(), name+"-"+strconv.Itoa(w.count))
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", fmt.Errorf("make folder of %s: %w", name, err)
	}
	return dir, os.Chmod(dir, 0o777) // nginx's worker is not who we are
}

// render writes one of the configuration templates into a folder, and returns the file.
func render(dir, name string, data any) (string, error) {
	t, err := template.ParseFS(configFiles, "config/"+name)
	if err != nil {
		return "", fmt.Errorf("read template %s: %w", name, err)
	}
	file := filepath.Join(dir, name)
	out, err := os.Create(file)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	defer out.Close()
	if err := t.Execute(out, data); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return file, nil
}

// start starts a proxy on its core.
func (w *world) start(name, path string, args, environ []string) (*harness.Process, error) {
	command, all := w.cores.pin(path, args...)
	return w.env.Start(harness.Command{Name: name, Path: command, Args: all, Env: environ})
}

// startBackend starts a backend of that kind on the other cores. It listens on all of 127.0.0.0/8.
func (w *world) startBackend(ctx context.Context, s *scenario) (port int, process *harness.Process, err error) {
	if port, err = w.env.Port(); err != nil {
		return 0, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, nil, fmt.Errorf("start backend: %w", err)
	}
	kind := s.backend
	if kind == "" {
		kind = loadPlain
	}
	process, err = w.env.Start(harness.Command{
		Name: "backend", Path: self, Env: []string{"GOMAXPROCS=1", "GOGC=400"},
		Args: []string{"backend", kind, "0.0.0.0:" + strconv.Itoa(port), strconv.Itoa(s.load.Body)},
	})
	if err != nil {
		return 0, nil, err
	}
	return port, process, waitAccept(ctx, process, local(port))
}

// waitAccept waits until somebody listens on an address, as long as a process lives.
func waitAccept(ctx context.Context, process *harness.Process, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("not within %v", startTime))
	defer cancel()
	return harness.Until(ctx, process.Name+" to listen", func(ctx context.Context) error {
		select {
		case <-process.Done():
			return &harness.GoneError{Name: process.Name, Err: process.Wait(ctx), Tail: tail(process.Log())}
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// startTime is what a proxy with 10,000 routes may take.
const startTime = 60 * time.Second

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
