//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// scaleOptions are the command line of `bench scale`: a sidecar with many upstreams, ours and Envoy in turn.
//
//	core 0    the proxy, one thread
//	core 1..  Consul (or the replay of its recorded stream), backends, probe
type scaleOptions struct {
	upstreams, instances int
	changes              int
	rate                 int
	seconds              int
	proxies, phases      string
	record               string
	profile              string
	verbose              bool
}

// phases of a run, in this order.
const (
	phaseNothing = "nothing" // a sidecar without upstreams
	phaseConsul  = "consul"  // with all upstreams, on a real Consul
	phaseChanges = "changes" // the same under all changes that Consul sustains
	phaseReplay  = "replay"  // a recorded stream at a fixed rate
)

// noProxy stands for what a change takes until Consul has told of it.
const noProxy = "(stream alone)"

func scaleMain(ctx context.Context, args []string) (err error) {
	var o scaleOptions
	flags := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	flags.IntVar(&o.upstreams, "upstreams", 1000, "of the sidecar")
	flags.IntVar(&o.instances, "instances", 10, "of each upstream")
	flags.IntVar(&o.changes, "changes", 100, "whose time to effect is taken, in each phase")
	flags.IntVar(&o.rate, "rate", 100, "changes a second of the replay")
	flags.IntVar(&o.seconds, "settle", 20, "seconds in which memory settles before it is read")
	flags.StringVar(&o.proxies, "proxy", "serai,envoy", "names with commas")
	flags.StringVar(&o.phases, "phase", strings.Join([]string{phaseNothing, phaseConsul, phaseChanges, phaseReplay}, ","), "names with commas")
	flags.StringVar(&o.record, "record", "", "file of the recorded stream: written by the phase consul, read by the phase replay")
	flags.StringVar(&o.profile, "serai-args", "", "further arguments of serai, with spaces")
	flags.BoolVar(&o.verbose, "v", false, "tell each process that starts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cores, err := claimCores()
	if err != nil {
		return err
	}
	var logf func(string, ...any)
	if o.verbose {
		logf = say
	}
	env, err := harness.New("scale", logf)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := env.Close(); err == nil {
			err = closeErr
		}
	}()
	s := &scale{options: &o, env: env, cores: cores}
	if o.record == "" {
		o.record = filepath.Join(env.Dir(), "stream")
	}
	return s.run(ctx)
}

// scale is one run.
type scale struct {
	options *scaleOptions
	env     *harness.Env
	cores   *cores
	mesh    *crowd // nil until it is needed
	rows    []*scaleRow
}

func (s *scale) run(ctx context.Context) error {
	for _, phase := range []struct {
		name string
		run  func(ctx context.Context, proxy string) (*scaleRow, error)
	}{
		{phaseNothing, s.nothing}, {phaseConsul, s.onConsul}, {phaseChanges, s.underChanges}, {phaseReplay, s.replay},
	} {
		if !slices.Contains(strings.Split(s.options.phases, ","), phase.name) {
			continue
		}
		if phase.name == phaseReplay {
			if err := s.endConsul(ctx); err != nil {
				return err
			}
		}
		proxies := strings.Split(s.options.proxies, ",")
		if phase.name == phaseConsul || phase.name == phaseChanges {
			proxies = append([]string{noProxy}, proxies...)
		}
		for _, proxy := range proxies {
			row, err := phase.run(ctx, proxy)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", phase.name, proxy, err)
			}
			row.phase, row.proxy = phase.name, proxy
			s.rows = append(s.rows, row)
			say("%s", row)
		}
	}
	return writeScale(os.Stdout, s.rows)
}

// nothing is a sidecar of a service that calls nobody.
func (s *scale) nothing(ctx context.Context, proxy string) (*scaleRow, error) {
	mesh, err := s.crowd(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.start(proxy, mesh.idle, "")
	if err != nil {
		return nil, err
	}
	defer p.stop(ctx)
	row := &scaleRow{}
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	row.firstSeconds, row.firstCPU = p.since(), p.cpu()
	return row, p.settle(ctx, row)
}

// onConsul is the sidecar with all upstreams.
func (s *scale) onConsul(ctx context.Context, proxy string) (*scaleRow, error) {
	mesh, err := s.crowd(ctx)
	if err != nil {
		return nil, err
	}
	if proxy == noProxy {
		row := &scaleRow{}
		return row, s.streamAlone(ctx, mesh, row)
	}
	p, row, err := s.first(ctx, proxy, mesh.busy, mesh.visitor())
	if err != nil {
		return nil, err
	}
	defer p.stop(ctx)
	if err := p.settle(ctx, row); err != nil {
		return nil, err
	}
	row.effects, err = s.effects(ctx, p, mesh.visitor().who, mesh.turn)
	if err != nil {
		return nil, err
	}
	if proxy != ours {
		return row, nil
	}
	if _, err := os.Stat(s.options.record); err == nil {
		return row, nil
	}
	return row, mesh.record(ctx, s.options.record)
}

// underChanges is the same while Consul is told of changes as fast as it takes them.
func (s *scale) underChanges(ctx context.Context, proxy string) (*scaleRow, error) {
	mesh, err := s.crowd(ctx)
	if err != nil {
		return nil, err
	}
	if proxy == noProxy {
		row := &scaleRow{}
		return row, s.inStorm(ctx, mesh, row, func() error { return s.streamAlone(ctx, mesh, row) })
	}
	p, row, err := s.first(ctx, proxy, mesh.busy, mesh.visitor())
	if err != nil {
		return nil, err
	}
	defer p.stop(ctx)
	before, began := p.cpu(), time.Now()
	if err := s.inStorm(ctx, mesh, row, func() (err error) {
		row.effects, err = s.effects(ctx, p, mesh.visitor().who, mesh.turn)
		return err
	}); err != nil {
		return nil, err
	}
	row.cpuShare = float64(p.cpu()-before) / float64(time.Since(began))
	return row, p.memory(row)
}

// inStorm takes effects while there is a storm of other changes, and notes their rate.
func (s *scale) inStorm(ctx context.Context, mesh *crowd, row *scaleRow, take func() error) error {
	began, end := time.Now(), mesh.storm(ctx)
	err := take()
	row.rate = float64(end()) / time.Since(began).Seconds()
	return err
}

// first starts a proxy and waits for its first answer.
func (s *scale) first(ctx context.Context, proxy, bootstrap string, probe *visitor) (*measured, *scaleRow, error) {
	p, err := s.start(proxy, bootstrap, s.options.profile)
	if err != nil {
		return nil, nil, err
	}
	row := &scaleRow{}
	if err := probe.answered(ctx, p); err != nil {
		p.stop(ctx)
		return nil, nil, err
	}
	row.firstSeconds, row.firstCPU = p.since(), p.cpu()
	return p, row, nil
}

// measured is a running proxy.
type measured struct {
	*harness.Process
	scale *scale
	began time.Time
	admin string
}

// start starts a proxy by a bootstrap file, on its core.
func (s *scale) start(proxy, bootstrap, more string) (*measured, error) {
	text, err := os.ReadFile(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("read bootstrap: %w", err)
	}
	port, err := s.env.Port()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.env.Dir(), proxy+"-"+strconv.Itoa(port)+".json")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), adminPort, strconv.Itoa(port))), 0o600); err != nil {
		return nil, fmt.Errorf("write bootstrap: %w", err)
	}
	path, args := "", []string{"-c", file, "-l", "warn", "--concurrency", "1", "--disable-hot-restart"}
	if proxy == ours {
		path, err = findSerai(nil)
		args = append([]string{"connect"}, append(args, strings.Fields(more)...)...)
	} else {
		path, err = s.env.Tool(proxy)
	}
	if err != nil {
		return nil, err
	}
	command, all := s.cores.pin(path, args...)
	p, err := s.env.Start(harness.Command{Name: "scale-" + proxy, Path: command, Args: all})
	if err != nil {
		return nil, err
	}
	return &measured{Process: p, scale: s, began: time.Now(), admin: local(port)}, nil
}

func (p *measured) stop(ctx context.Context) {
	if err := p.Stop(ctx); err != nil {
		say("stop %s: %v", p.Name, err)
	}
}

// ended is closed when the proxy has; nil for none.
func (p *measured) ended() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.Done()
}

func (p *measured) since() float64 { return time.Since(p.began).Seconds() }

// cpu is all processor time since the start.
func (p *measured) cpu() time.Duration { return processorTime([]int{p.PID()}) }

// memory reads what is resident now, and was at most.
func (p *measured) memory(row *scaleRow) (err error) {
	if row.resident, err = memory([]int{p.PID()}, "VmRSS:"); err != nil {
		return err
	}
	row.peak, err = peakMemory([]int{p.PID()})
	return err
}

// settle waits for a while and then reads the memory.
func (p *measured) settle(ctx context.Context, row *scaleRow) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.Done():
		return fmt.Errorf("%s ended: %s", p.Name, tail(p.Log()))
	case <-time.After(time.Duration(p.scale.options.seconds) * time.Second):
	}
	return p.memory(row)
}

// ready waits until the admin interface says so.
func (p *measured) ready(ctx context.Context) error {
	return harness.Until(ctx, p.Name+" to be ready", func(ctx context.Context) error {
		return exec.CommandContext(ctx, "curl", "-fsS", "-m", "1", "http://"+p.admin+"/ready").Run()
	})
}
