//go:build linux

// Command bench puts serai and its peers under the same load, one after another on the same processor, and tells what
// a request costs each of them. `make bench-peers` runs it; docs/benchmarks.md explains it.
//
//	core 0    proxy (or the two sidecars of a pair), one thread
//	core 1..  load ──▶ proxy ──▶ backend, each a process of its own, and Consul
//
// # Alternatives not taken
//
//   - wrk, h2load, fortio: with the backend on the same core they cost more than HAProxy does, so that one would measure
//     them; none takes the proxy's processor time over just the measured time.
//   - Requests per second as the measure: they depend on what load and backend leave to the machine. Processor time per
//     request does not, as long as the proxy has always something to do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "load" {
		return loadMain(args[1])
	}
	if len(args) == 4 && args[0] == "backend" {
		return backendMain(args[1], args[2], args[3])
	}
	if len(args) > 0 && args[0] == "scale" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return scaleMain(ctx, args[1:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return compare(ctx, args)
}

func backendMain(kind, addr, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return fmt.Errorf("read size of bodies: %w", err)
	}
	if kind == loadPlain {
		return servePlain(addr, n)
	}
	return serveStreams(addr, kind, n)
}

// options are the command line.
type options struct {
	scenarios string
	proxies   string
	rounds    int
	seconds   float64
	file      string
	verbose   bool
}

func compare(ctx context.Context, args []string) (err error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.scenarios, "scenario", "", "names with commas; none means all")
	flags.StringVar(&o.proxies, "proxy", "", "names with commas; none means all that are there")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each proxy is measured, in turns")
	flags.Float64Var(&o.seconds, "seconds", 2.5, "of each measurement")
	flags.StringVar(&o.file, "json", "", "file to write the rows to")
	flags.BoolVar(&o.verbose, "v", false, "tell each process that starts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(o.scenarios)
	if err != nil {
		return err
	}
	if o.rounds < 1 || o.seconds <= 0 {
		return errors.New("rounds and seconds must be more than 0")
	}
	w, err := newWorld(o.log())
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := w.env.Close(); err == nil {
			err = closeErr
		}
	}()
	b := &bench{world: w, rounds: o.rounds, seconds: time.Duration(o.seconds * float64(time.Second)), say: say}
	b.line(ctx, o.proxies)
	return b.run(ctx, chosen, o.file)
}

func (o *options) log() func(string, ...any) {
	if o.verbose {
		return say
	}
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// line finds the peers that are there, and names all.
func (b *bench) line(ctx context.Context, names string) {
	b.paths = map[string]string{}
	fmt.Printf("%s on core %d, load and backend on the others\n", processor(), b.world.cores.proxy)
	for _, p := range peers() {
		if names != "" && !strings.Contains(","+names+",", ","+p.name+",") {
			continue
		}
		path, err := p.find(b.world)
		if err != nil {
			fmt.Printf("  %-13s not here: %v\n", p.name, err)
			continue
		}
		b.peers = append(b.peers, p)
		b.paths[p.name] = path
		fmt.Printf("  %-13s %s\n", p.name, p.versionOf(ctx, path))
	}
}

func (b *bench) run(ctx context.Context, chosen []*scenario, file string) error {
	start := time.Now()
	var all []*row
	for _, s := range chosen {
		rows, err := b.scenario(ctx, s)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		if err := writeTable(os.Stdout, s, rows); err != nil {
			return err
		}
		if all = append(all, rows...); file == "" {
			continue
		}
		if err := writeRows(file, all); err != nil {
			return err
		}
	}
	fmt.Printf("\n%d rounds of %v, %v in all", b.rounds, b.seconds, time.Since(start).Round(time.Second))
	if file != "" {
		fmt.Printf("; the rows are in %s", file)
	}
	fmt.Println()
	return nil
}

// processor names the machine's.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
