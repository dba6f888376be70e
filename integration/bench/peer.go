//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/serai-net/serai/integration/harness"
)

// ours is the name of our own rows.
const ours = "serai"

// peer is a proxy that can be put under load.
type peer struct {
	name    string
	find    func(w *world) (path string, err error)                       // the binary
	version []string                                                      // arguments that print it
	does    func(s *scenario) string                                      // "", or why it cannot do a scenario
	start   func(ctx context.Context, w *world, j *job) (*subject, error) // for a scenario that it does
}

// job is what a peer has to do.
type job struct {
	scenario *scenario
	path     string // of the peer's binary
	backend  int    // port
}

// subject is a running proxy, or pair of proxies.
type subject struct {
	addr      string // for the load
	processes []*harness.Process
	note      string // on what is not as for the others
}

// peers are all there are, ours first.
func peers() []*peer {
	return []*peer{seraiPeer(), nginxPeer(), haproxyPeer(), caddyPeer(), envoyPeer(), traefikPeer(), consulPeer()}
}

// onPath finds a peer that the system has.
func onPath(name string) func(*world) (string, error) {
	return func(*world) (string, error) {
		for _, dir := range []string{"", "/usr/sbin", "/usr/local/sbin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
		return "", errors.New("it is not on PATH")
	}
}

// pinned finds a peer among the tools.
func pinned(name string) func(*world) (string, error) {
	return func(w *world) (string, error) { return w.env.Tool(name) }
}

// gateway refuses sidecar pairs.
func gateway(s *scenario) string {
	if s.pair != "" {
		return "no sidecar"
	}
	return ""
}

func anything(*scenario) string { return "" }

// settings are what templates of gateways are filled with.
type settings struct {
	Port     int
	Dir      string
	Cert     string
	Key      string
	Pem      string
	TLS      bool // in front
	H2       bool // in front
	BackH2   bool
	GRPC     bool
	Log      string // file of the access log; "" for none
	Map      string // HAProxy's file of routes; "" for one backend
	Routes   []route
	Clusters []cluster
	ByName   map[string]cluster
}

type route struct{ Prefix, Cluster string }

type cluster struct {
	Name  string
	Hosts []endpoint
}

// Endpoints are HOST:PORT.
func (c cluster) Endpoints() []string {
	var all []string
	for _, h := range c.Hosts {
		all = append(all, h.Address+":"+strconv.Itoa(h.Port))
	}
	return all
}

type endpoint struct {
	Address string
	Port    int
}

// gatewaySettings takes a port and a folder for a gateway.
func (w *world) gatewaySettings(name string, j *job) (*settings, error) {
	dir, err := w.folder(name)
	if err != nil {
		return nil, err
	}
	port, err := w.env.Port()
	if err != nil {
		return nil, err
	}
	s := j.scenario
	out := &settings{
		Port: port, Dir: dir, Cert: w.server.Cert, Key: w.server.Key, Pem: w.server.Pem,
		TLS: s.tls, H2: s.streamed(), BackH2: s.backend != "", GRPC: s.grpc(), ByName: map[string]cluster{},
	}
	if s.log {
		out.Log = filepath.Join(dir, "access.log")
	}
	for i := range max(1, s.clusters) {
		c := cluster{Name: "cluster" + strconv.Itoa(i), Hosts: []endpoint{{"127.0.0.1", j.backend}}}
		if s.clusters > 0 {
			c.Hosts = nil
			for n := range 10 {
				c.Hosts = append(c.Hosts, endpoint{fmt.Sprintf("127.%d.%d.%d", 1+i/250, i%250, 1+n), j.backend})
			}
		}
		out.Clusters = append(out.Clusters, c)
		out.ByName[c.Name] = c
	}
	for i, prefix := range s.prefixes() {
		out.Routes = append(out.Routes, route{prefix, out.Clusters[i%len(out.Clusters)].Name})
	}
	return out, nil
}

// gatewaySubject starts a gateway and waits until it listens.
func (w *world) gatewaySubject(ctx context.Context, name string, j *job, s *settings, args []string, environ ...string) (*subject, error) {
	process, err := w.start(name, j.path, args, environ)
	if err != nil {
		return nil, err
	}
	out := &subject{addr: local(s.Port), processes: []*harness.Process{process}}
	return out, waitAccept(ctx, process, out.addr)
}

// kill ends a subject at once: how it would drain is no matter here.
func (s *subject) kill() {
	for _, p := range s.processes {
		_ = p.Kill() // it never fails
	}
}

// pids are those of all its processes.
func (s *subject) pids() ([]int, error) {
	var all []int
	for _, p := range s.processes {
		pids, err := family(p.PID())
		if err != nil {
			return nil, err
		}
		all = append(all, pids...)
	}
	return all, nil
}

// versionOf is the first line that a peer prints of itself.
func (p *peer) versionOf(ctx context.Context, path string) string {
	if p.version == nil {
		return ""
	}
	command := exec.CommandContext(ctx, path, p.version...)
	command.Env = append(os.Environ(), "HOME="+os.TempDir())
	out, err := command.CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(line)
}

// tail is the end of a log, on one line.
func tail(log string) string {
	log = strings.Join(strings.Fields(log), " ")
	return log[max(0, len(log)-400):]
}
