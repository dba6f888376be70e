package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	nomadapi "github.com/hashicorp/nomad/api"
)

const (
	nomadStart = 90 * time.Second
	nomadXDS   = 8502                    // where Nomad looks for Consul's gRPC port in the host's network, whatever it is told
	nomadAddr  = "http://127.0.0.1:4646" // in the namespace
)

// NomadConfig says what Nomad to start. The zero value: an agent that is server and client, with a Consul of its own
// that has no ACLs.
type NomadConfig struct {
	ConsulACL bool   // Consul with ACLs, default deny; Nomad then gets its jobs' tokens by workload identity
	ACL       bool   // Nomad with ACLs
	HCL       string // added to Nomad's configuration
	ConsulHCL string // added to Consul's configuration
	// Chroot is added to the files that a task of the exec driver sees (path here: path there). It sees bin/serai as
	// /usr/local/bin/serai, fortio as /usr/local/bin/fortio and a shell with a few commands, and not all of /usr, which
	// Nomad would copy for each task.
	Chroot map[string]string
	CNI    []string // more folders of CNI plugins
	Docker *Docker  // nil: there is no docker driver
}

// Nomad is a Nomad agent and its Consul agent in a namespace of their own.
type Nomad struct {
	API       *nomadapi.Client // with Token
	Token     string           // the management token; empty without ACLs
	Consul    *Consul
	Namespace *Namespace

	// set by Env.Nomad
	env     *Env
	process *Process
}

// Nomad starts a Nomad agent (-dev-connect) and its Consul, and waits until its node may take jobs with bridge
// networks. Where that is not possible (it needs Linux and root) the test is skipped, loudly.
func (e *Env) Nomad(ctx context.Context, config NomadConfig) (*Nomad, error) {
	path, err := e.Tool("nomad")
	if err != nil {
		return nil, err
	}
	space, err := e.Namespace(ctx)
	if err != nil {
		return nil, err
	}
	consul, err := e.Consul(ctx, ConsulConfig{Name: "nomad-consul", NoACL: !config.ConsulACL, HCL: config.ConsulHCL, Namespace: space, GRPCPort: nomadXDS})
	if err != nil {
		return nil, err
	}
	n := &Nomad{Consul: consul, Namespace: space, env: e}
	client := &http.Client{Transport: &http.Transport{DialContext: space.DialContext, MaxIdleConnsPerHost: 4}}
	if n.API, err = nomadapi.NewClient(&nomadapi.Config{Address: nomadAddr, HttpClient: client}); err != nil {
		return nil, fmt.Errorf("make client of nomad: %w", err)
	}
	e.guardian.cgroup(e.cgroup())
	if config.Docker != nil {
		if err := e.docker(ctx, space, config.Docker); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(e.dir, "nomad")
	text, err := e.nomadFile(config, consul)
	if err != nil {
		return nil, err
	}
	if err := writeFiles(dir, map[string]string{"1-harness.hcl": text, "2-test.hcl": config.HCL}); err != nil {
		return nil, fmt.Errorf("configure nomad: %w", err)
	}
	// -dev-connect looks for a consul on PATH, to see that it is there.
	if err := os.Symlink(consul.path, filepath.Join(dir, "consul")); err != nil {
		return nil, fmt.Errorf("configure nomad: %w", err)
	}
	if n.process, err = e.Start(Command{
		Name: "nomad", Path: path, Namespace: space, Env: []string{"TMPDIR=" + dir, "PATH=" + dir + ":" + os.Getenv("PATH")},
		Args: []string{"agent", "-dev-connect", "-config", filepath.Join(dir, "1-harness.hcl"), "-config", filepath.Join(dir, "2-test.hcl")},
	}); err != nil {
		return nil, err
	}
	// The jobs go before the agent: tasks outlive it, and so do their mounts.
	e.OnClose(func(ctx context.Context) error {
		defer client.CloseIdleConnections()
		return n.stopJobs(ctx)
	})
	if config.ACL {
		if err := n.bootstrap(ctx); err != nil {
			return nil, err
		}
	}
	if err := n.waitReady(ctx, config); err != nil {
		return nil, err
	}
	if config.ConsulACL {
		return n, n.setupConsul(ctx, path)
	}
	return n, nil
}

// Serai starts bin/serai in the namespace, where it finds this Nomad. It has no token: env may give it one.
func (n *Nomad) Serai(args []string, env ...string) (*Process, error) {
	return n.env.serai(n.Namespace, args, append([]string{"NOMAD_ADDR=" + nomadAddr}, env...))
}

// PolicyToken makes a token with these rules of Nomad's.
func (n *Nomad) PolicyToken(ctx context.Context, name, rules string) (string, error) {
	write := (&nomadapi.WriteOptions{}).WithContext(ctx)
	if _, err := n.API.ACLPolicies().Upsert(&nomadapi.ACLPolicy{Name: name, Rules: rules}, write); err != nil {
		return "", fmt.Errorf("make policy %s: %w", name, err)
	}
	token, _, err := n.API.ACLTokens().Create(&nomadapi.ACLToken{Name: name, Type: "client", Policies: []string{name}}, write)
	if err != nil {
		return "", fmt.Errorf("make token of %s: %w", name, err)
	}
	return token.SecretID, nil
}

// Run submits a job, in HCL. It does not wait for it.
func (n *Nomad) Run(ctx context.Context, jobHCL string) (*nomadapi.Job, error) {
	job, err := n.API.Jobs().ParseHCL(jobHCL, true)
	if err != nil {
		return nil, fmt.Errorf("parse job: %w", err)
	}
	if _, _, err := n.API.Jobs().Register(job, (&nomadapi.WriteOptions{}).WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("run job %s: %w", *job.ID, err)
	}
	return job, nil
}

// WaitRunning waits until every group of the job has its count of allocations running, each with all its tasks. What
// is in their way is in the error.
func (n *Nomad) WaitRunning(ctx context.Context, job string) error {
	return Until(ctx, "job "+job+" to run", func(ctx context.Context) error {
		query := (&nomadapi.QueryOptions{}).WithContext(ctx)
		info, _, err := n.API.Jobs().Info(job, query)
		if err != nil {
			return err
		}
		allocs, _, err := n.API.Jobs().Allocations(job, false, query)
		if err != nil {
			return err
		}
		running := map[string]int{}
		var news []string
		for _, alloc := range allocs {
			states := taskNews(alloc.TaskStates)
			if alloc.ClientStatus == nomadapi.AllocClientStatusRunning && states == "" {
				running[alloc.TaskGroup]++
			}
			news = append(news, fmt.Sprintf("%s %s %s", alloc.Name, alloc.ClientStatus, states))
		}
		for _, group := range info.TaskGroups {
			if running[*group.Name] < *group.Count {
				return fmt.Errorf("group %s has %d of %d: %s", *group.Name, running[*group.Name], *group.Count, strings.Join(news, "; "))
			}
		}
		return nil
	})
}

// taskNews is empty if all tasks run or are done well.
func taskNews(states map[string]*nomadapi.TaskState) string {
	if len(states) == 0 {
		return "no task yet"
	}
	var news []string
	for _, name := range slices.Sorted(maps.Keys(states)) {
		state := states[name]
		if state.State == "running" || state.State == "dead" && !state.Failed {
			continue
		}
		text := name + " is " + state.State
		if len(state.Events) > 0 {
			text += ": " + state.Events[len(state.Events)-1].DisplayMessage
		}
		news = append(news, text)
	}
	return strings.Join(news, ", ")
}

// Stop stops a job, waits until none of its tasks is left, and purges it.
func (n *Nomad) Stop(ctx context.Context, job string) error {
	write := (&nomadapi.WriteOptions{}).WithContext(ctx)
	if _, _, err := n.API.Jobs().Deregister(job, false, write); err != nil {
		return fmt.Errorf("stop job %s: %w", job, err)
	}
	err := Until(ctx, "job "+job+" to stop", func(ctx context.Context) error {
		allocs, _, err := n.API.Jobs().Allocations(job, true, (&nomadapi.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		for _, alloc := range allocs {
			if alloc.ClientStatus == nomadapi.AllocClientStatusPending || alloc.ClientStatus == nomadapi.AllocClientStatusRunning {
				return fmt.Errorf("%s is %s", alloc.Name, alloc.ClientStatus)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Only now: a purge forgets the allocations at once, while their tasks still run.
	if _, _, err := n.API.Jobs().Deregister(job, true, write); err != nil {
		return fmt.Errorf("purge job %s: %w", job, err)
	}
	return nil
}

// TaskLog is what a task of the job's newest allocation with such a task has written; kind is "stdout" or "stderr".
func (n *Nomad) TaskLog(job, task, kind string) (string, error) {
	// Read as files: the API's log streams need a connection each that outlives its reader.
	pattern := filepath.Join(n.env.dir, "mnt", "a", "*", "alloc", "logs", task+"."+kind+".0")
	allocs, _, err := n.API.Jobs().Allocations(job, true, nil)
	if err != nil {
		return "", fmt.Errorf("read log of %s: %w", task, err)
	}
	slices.SortFunc(allocs, func(a, b *nomadapi.AllocationListStub) int { return int(b.CreateTime - a.CreateTime) })
	files, err := filepath.Glob(pattern)
	if err != nil {
		return "", fmt.Errorf("read log of %s: %w", task, err)
	}
	for _, alloc := range allocs {
		for _, file := range files {
			if strings.Contains(file, alloc.ID) {
				text, err := os.ReadFile(file)
				return string(text), err
			}
		}
	}
	return "", fmt.Errorf("read log of %s: none in %s", task, pattern)
}

// stopJobs stops all jobs, if the agent still answers.
func (n *Nomad) stopJobs(ctx context.Context) error {
	select {
	case <-n.process.Done():
		return nil // the namespace takes its tasks along
	default:
	}
	jobs, _, err := n.API.Jobs().List((&nomadapi.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	var errs []error
	for _, job := range jobs {
		errs = append(errs, n.Stop(ctx, job.ID))
	}
	return errors.Join(errs...)
}
