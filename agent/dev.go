package agent

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/edge"
)

// devAddress is where the edge listens if no configuration says otherwise.
const devAddress = "127.0.0.1:8080"

// Dev is the whole thing on a laptop: the edge against the Consul at consul's
// address, or against one that it starts as its child if none answers. Without
// a configuration (c is nil) it routes /NAME/ to each service there is, and
// follows them as they come and go.
func Dev(ctx context.Context, c *config.Config, consul catalog.Config, stdout io.Writer, log *slog.Logger) error {
	if answers(ctx, consul) != nil {
		stop, err := startConsul(ctx, consul, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	if c != nil {
		a, err := New(c, consul, stdout, log)
		if err != nil {
			return err
		}
		return a.Run(ctx)
	}
	a, err := New(devConfig(nil), consul, stdout, log)
	if err != nil {
		return err
	}
	client, err := catalog.NewClient(consul)
	if err != nil {
		return err
	}
	follow, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		catalog.FollowServices(follow, client, func(services []catalog.Service) {
			if err := a.Reload(devConfig(services)); err != nil {
				log.Error("routes not changed", "err", err)
				return
			}
			for _, s := range services {
				log.Info("route", "url", "http://"+devAddress+"/"+s.Name+"/", "mesh", s.Mesh)
			}
		})
	}()
	err = a.Run(ctx)
	stop()
	<-done
	return err
}

// devConfig routes /NAME/ to each service, by the mesh if it is in it.
func devConfig(services []catalog.Service) *config.Config {
	api := edge.API{Name: "dev"}
	for _, s := range services {
		upstream := &edge.Upstream{Catalog: s.Name}
		if s.Mesh {
			upstream = &edge.Upstream{Service: s.Name}
		}
		if s.Name == "edge" {
			continue
		}
		api.Routes = append(api.Routes, edge.Route{
			Name: s.Name, PathPrefix: "/" + s.Name, StripPrefix: true, Upstream: upstream,
		})
	}
	atOnce := time.Duration(0) // nobody needs time to learn that a laptop's edge goes
	c := &edge.Config{
		DrainDelay: &atOnce,
		Listeners:  []edge.Listener{{Name: "dev", Address: netip.MustParseAddrPort(devAddress), IdleTimeout: time.Minute}},
		AccessLog:  &telemetry.AccessLogConfig{},
	}
	if len(api.Routes) > 0 {
		c.APIs = []edge.API{api}
	}
	return &config.Config{Edge: c}
}
