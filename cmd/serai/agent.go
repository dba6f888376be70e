package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent"
	"github.com/serai-net/serai/agent/config"
)

func agentCommand() *cli.Command {
	return &cli.Command{
		Name:  "agent",
		Usage: "run all roles that a configuration names, in one process",
		Description: "With -dev and no configuration, the edge listens on 127.0.0.1:8080 and routes /NAME/ to\n" +
			"each service that Consul knows. If no Consul answers, `consul agent -dev` is started as\n" +
			"a child, and ended with the agent.\n\n" +
			"Examples:\n\n" +
			"  serai agent -dev\n" +
			"  serai agent -dev -config edge.hcl\n" +
			"  serai agent -config /etc/serai.d",
		Flags: configFlags(&cli.BoolFlag{Name: "dev", Usage: "for a laptop: bring what is missing"}),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			paths := c.StringSlice("config")
			switch {
			case c.Bool("dev") && !c.Bool("validate"):
				return runDev(c, paths)
			case len(paths) == 0:
				return &usageError{command: "agent", err: errors.New("give -config FILE, or -dev to try it without one")}
			default:
				return runAgent(c, paths)
			}
		},
	}
}

func runDev(c *cli.Context, paths []string) error {
	var loaded *config.Config // nil: what the catalog has
	file := config.Config{}
	switch {
	case len(paths) > 0:
		var err error
		if loaded, err = config.Load(paths...); err == nil {
			err = bindAdmin(c, loaded)
		}
		if err != nil {
			return err
		}
		file = *loaded
	case c.IsSet("admin-bind"):
		return &usageError{command: "agent", err: errors.New("-admin-bind goes with -config")}
	}
	log, err := setUp(c, file.Log)
	if err != nil {
		return err
	}
	return agent.Dev(c.Context, loaded, consulConfig(c, file.Consul), os.Stdout, log)
}
