package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent"
	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/connect/admin"
)

// configFlags are those of commands that read a configuration and serve it.
func configFlags(own ...cli.Flag) []cli.Flag {
	own = append(own,
		&cli.StringSliceFlag{
			Name: "config", Aliases: []string{"config-file", "config-dir", "c"},
			Usage: "HCL `file`, or folder with *.hcl and *.json; may be repeated",
		},
		&cli.StringFlag{Name: "admin-bind", Usage: "`address` of the admin interface: /ready, /stats, /metrics; over what the block admin says"},
		&cli.BoolFlag{Name: "validate", Usage: "check the configuration and exit"})
	return slices.Concat(own, processFlags(), consulFlags())
}

func edgeCommand() *cli.Command {
	return &cli.Command{
		Name:  "edge",
		Usage: "run the API gateway",
		Description: "Examples:\n\n" +
			"  serai edge -config edge.hcl\n" +
			"  serai edge -config /etc/serai.d -validate\n" +
			"  kill -HUP PID     # read the files again; if they are wrong, the old ones stay in force",
		Flags: configFlags(),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			paths := c.StringSlice("config")
			if len(paths) == 0 {
				return &usageError{command: "edge", err: errors.New("which configuration? Give -config FILE or -config FOLDER")}
			}
			return runAgent(c, paths)
		},
	}
}

// runAgent runs what the files say, and reads them again on SIGHUP.
func runAgent(c *cli.Context, paths []string) error {
	return runLoaded(c, func() (*config.Config, error) { return config.Load(paths...) })
}

// runLoaded runs what read returns, and calls it again on SIGHUP.
func runLoaded(c *cli.Context, read func() (*config.Config, error)) error {
	load := func() (*config.Config, error) {
		loaded, err := read()
		if err == nil {
			err = bindAdmin(c, loaded)
		}
		return loaded, err
	}
	loaded, err := load()
	if err != nil {
		return err
	}
	log, err := setUp(c, loaded.Log)
	if err != nil {
		return err
	}
	a, err := agent.New(loaded, consulConfig(c, loaded.Consul), os.Stdout, log)
	if err != nil {
		return err
	}
	if c.Bool("validate") {
		log.Info("the configuration is valid")
		return nil
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	go reloadOnHangup(ctx, a, load, log)
	return serve(ctx, a, log)
}

// bindAdmin puts the flag over what the files say.
func bindAdmin(c *cli.Context, loaded *config.Config) error {
	address := c.String("admin-bind")
	if address == "" {
		return nil
	}
	loaded.Admin = &admin.Config{Address: address}
	if err := loaded.Admin.Validate(); err != nil {
		return &usageError{command: c.Command.Name, err: fmt.Errorf("-admin-bind: %w", err)}
	}
	return nil
}

// reloadOnHangup puts what load returns in force on each SIGHUP until ctx ends.
func reloadOnHangup(ctx context.Context, a *agent.Agent, load func() (*config.Config, error), log *slog.Logger) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		next, err := load()
		if err == nil {
			err = a.Reload(next)
		}
		if err != nil {
			log.Error("configuration not reloaded, the old one stays in force", "err", err)
		}
	}
}
