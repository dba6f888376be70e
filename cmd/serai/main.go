// Command serai is an API gateway and a Consul Connect data plane in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	collectAtStart()
	// SIGINT is what Nomad's exec driver sends, SIGTERM what everybody else does.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	app := app()
	var err error
	if len(args) > 0 && wantsVersion(args) {
		err = printEnvoyVersion(args, os.Stdout)
	} else {
		err = app.RunContext(ctx, flagsFirst(app, fromEnvoy(args, os.Stderr)))
	}
	if err == nil {
		return 0
	}
	code := 1
	if exit, ok := errors.AsType[*exitError](err); ok {
		if code = exit.code; exit.err == nil {
			return code
		}
	}
	if wrong := shown(err); wrong != nil {
		wrong.Write(os.Stderr, colours(os.Stderr)) //nolint:errcheck // there is nowhere else to tell
		return code
	}
	fmt.Fprintln(os.Stderr, paint(os.Stderr, red, "serai: ")+strings.TrimSpace(err.Error()))
	if usage, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(os.Stderr, "Try: %s --help\n", strings.TrimSpace("serai "+usage.command))
	}
	return code
}

func app() *cli.App {
	app := cli.NewApp()
	app.Name = "serai"
	app.Usage = "API gateway and Connect data plane for Consul and Nomad"
	app.Description = "One binary for the way from a client's API key to the last service behind it:\n" +
		"the edge guards the gate, connect is the sidecar of each service, and Consul\n" +
		"tells both what to do."
	app.Version = version()
	app.EnableBashCompletion = true
	app.HideHelpCommand = true
	app.Commands = []*cli.Command{agentCommand(), edgeCommand(), connectCommand(), dnsCommand(), jobCommand(), redirectCommand(), completionCommand()}
	// run tells errors, and once.
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.OnUsageError = usage
	for _, command := range app.Commands {
		command.OnUsageError = usage
	}
	app.Action = func(c *cli.Context) error {
		if name := c.Args().First(); name != "" {
			var names []string
			for _, command := range c.App.Commands {
				names = append(names, command.Name)
			}
			return &usageError{err: fmt.Errorf("there is no command %q%s", name, meant(name, names))}
		}
		return cli.ShowAppHelp(c)
	}
	return app
}

// noArguments refuses what stands after the flags: a forgotten dash, mostly.
func noArguments(c *cli.Context) error {
	if c.Args().Len() == 0 {
		return nil
	}
	err := fmt.Errorf("%q is no flag: flags begin with a dash", c.Args().First())
	if len(c.Command.Subcommands) > 0 {
		var names []string
		for _, sub := range c.Command.Subcommands {
			names = append(names, sub.Name)
		}
		err = fmt.Errorf("%w, and commands of %s are %s", err, c.Command.Name, strings.Join(names, ", "))
	}
	return &usageError{command: c.Command.Name, err: err}
}
