package main

import (
	"context"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/proxy"
)

func placeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name:  "zone-aware",
			Usage: "prefer endpoints of our own zone, then of our region; the catalog's nodes tell (their locality, or else their meta data zone and region), which needs the HTTP API and node:read",
		},
		&cli.StringFlag{Name: "zone", Usage: "our own `zone` for -zone-aware (default: that of the agent's node)"},
		&cli.StringFlag{Name: "region", Usage: "our own `region`"},
	}
}

// placesOf follows where nodes run, if asked to. The token is that of xDS where none
// is given for the HTTP API.
func placesOf(c *cli.Context, config *proxy.Config, log *slog.Logger) error {
	if !c.Bool("zone-aware") {
		return nil
	}
	consul := consulConfig(c, nil)
	if consul.Token == "" && consul.TokenFile == "" {
		consul.Token = config.XDS.ADS.Token
	}
	client, err := catalog.NewClient(consul)
	if err != nil {
		return err
	}
	node, _ := config.XDS.ADS.Node.Metadata["node_name"].(string)
	own := mesh.Place{Region: c.String("region"), Zone: c.String("zone")}
	config.Places = func(ctx context.Context, take func(*mesh.Map)) error {
		return catalog.NewPlaces(client, node, own, take, log).Run(ctx)
	}
	return nil
}
