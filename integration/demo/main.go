// Command demo shows the main job with real parts: a client calls the edge with
// an API key, the edge calls web by mTLS through a sidecar that Consul
// configured, web calls api the same way, and intentions decide.
//
//	curl ── edge ══ mTLS ══ sidecar ── web ── sidecar ══ mTLS ══ sidecar ── api v1
//	                                                        ╚══ sidecar ── api v2
//
// It prints the commands that the README shows, and with -check runs them and
// compares what they print with the README. `make demo` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "service" {
		exit(serve(ctx, os.Args[2:]))
	}
	check := flag.Bool("check", false, "run the commands of the README, compare, and exit")
	address := flag.String("edge", readmeEdge, "where the edge listens; another port is taken if this one is in use")
	verbose := flag.Bool("v", false, "tell each process that starts")
	flag.Parse()
	exit(run(ctx, *address, *check, *verbose))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, address string, check, verbose bool) (err error) {
	steps, err := readSteps()
	if err != nil {
		return err
	}
	var logf func(string, ...any)
	if verbose {
		logf = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	}
	env, err := harness.New("demo", logf)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := env.Close(); err == nil {
			err = closeErr
		}
	}()
	start := time.Now()
	w := &world{env: env, edge: freeAddress(address), dns: freeAddress(readmeDNS), admin: freeAddress(readmeAdmin)}
	if err := w.start(ctx); err != nil {
		w.tellLogs()
		return err
	}
	steps.at(w.edge, w.dns, w.admin)
	fmt.Printf("\nReady after %.1f s.\n\n", time.Since(start).Seconds())
	w.describe()
	if check {
		return steps.check(ctx)
	}
	steps.print()
	fmt.Printf("\nThe access log of the edge, live (Ctrl-C ends everything):\n\n")
	follow(ctx, w.accessLog())
	fmt.Println("\nStopping ...")
	return nil
}
