package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/bootstrap"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
)

func connectCommand() *cli.Command {
	return &cli.Command{
		Name:  "connect",
		Usage: "run a Connect proxy: the sidecar of a service",
		Description: "The proxy is named by -sidecar-for, -proxy-id or -gateway, or by the bootstrap file that\n" +
			"`consul connect envoy -bootstrap` prints and Nomad writes. All else comes from Consul.\n\n" +
			"Examples:\n\n" +
			"  serai connect -sidecar-for web-1\n" +
			"  serai connect -proxy-id web-1-sidecar-proxy -admin-bind 127.0.0.1:19000\n" +
			"  serai connect -gateway mesh -register -address 10.0.0.7:8443\n" +
			"  serai connect -c ${NOMAD_SECRETS_DIR}/envoy_bootstrap.json -l info --concurrency 1\n" +
			"  consul connect envoy -sidecar-for web-1 -grpc-addr 127.0.0.1:8502 -envoy-binary /usr/local/bin/envoy\n\n" +
			"The last line needs a link to serai that is called envoy: under that name it takes Envoy's\n" +
			"command line, and --version says which Envoy it stands for. (Without -grpc-addr that command\n" +
			"takes an agent's port for TLS where it has one, as in -dev, and then wants -ca-file.)",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "config-path", Aliases: []string{"c"}, Usage: "bootstrap `file`, JSON or YAML, also a FIFO"},
			&cli.StringFlag{Name: "sidecar-for", Usage: "`ID` of the service instance whose sidecar this is", EnvVars: []string{"CONNECT_SIDECAR_FOR"}},
			&cli.StringFlag{Name: "proxy-id", Usage: "`ID` of the proxy itself", EnvVars: []string{"CONNECT_PROXY_ID"}},
			&cli.StringFlag{Name: "gateway", Usage: "`kind` of the gateway that this is: mesh, terminating, ingress or api"},
			&cli.StringFlag{Name: "admin-bind", Usage: "`address` of the admin interface: /ready, /stats, /metrics; none without it, or what the bootstrap file says"},
			&cli.StringFlag{Name: "access-log", Usage: "`file` for a line on each exchange and connection, opened again on SIGHUP and SIGUSR1; - is standard output"},
			&cli.StringFlag{Name: "access-log-format", Usage: "text or json (default: text)"},
			&cli.IntFlag{Name: "metrics-max-series", Usage: "`bound` of what metrics tell apart", DefaultText: "10000"},
			&cli.StringFlag{
				Name: "state-dir", EnvVars: []string{"SERAI_STATE_DIR"},
				Usage: "`folder` that only we may enter, in which the last good configuration is kept, with its private keys: a restart while Consul is away serves by it",
			},
			&cli.DurationFlag{Name: "drain-delay", Value: time.Second, Usage: "how long connections are accepted after the signal to stop"},
			&cli.DurationFlag{Name: "drain-timeout", Value: 4500 * time.Millisecond, Usage: "when what is left is killed, counted from the signal"},
			&cli.BoolFlag{Name: "disable-hot-restart", Hidden: true, Usage: "Envoy's; there is nothing to disable"},
		}, append(append(append(gatewayFlags(), placeFlags()...), envoyFlags()...), processFlags()...)...), consulFlags()...),
		Action:          runConnect,
		HideHelpCommand: true,
		Subcommands:     connectSubcommands(),
	}
}

// connectSubcommands ask a sidecar that runs.
func connectSubcommands() []*cli.Command {
	all := []*cli.Command{connectExplainCommand(), connectDiffCommand(), connectTapCommand()}
	for _, sub := range all {
		sub.HideHelpCommand = true
		sub.OnUsageError = func(c *cli.Context, err error, _ bool) error {
			return &usageError{command: "connect " + sub.Name, err: plain(c, err)}
		}
	}
	return all
}

func runConnect(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	level := &slog.LevelVar{}
	if err := errors.Join(checkEnvoyVersion(c.String("envoy-version")), checkMode(c), checkAdminBind(c)); err != nil {
		return err
	}
	log, file, err := setUpAt(c, level)
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	seen, reopenAccess, err := observe(c, log)
	if err != nil {
		return err
	}
	var reopening sync.Mutex // signals and POST /reopen_logs come at the same time: the last to open a file keeps it
	reopen := func() {
		reopening.Lock()
		defer reopening.Unlock()
		if file != nil {
			if err := file.open(); err != nil {
				log.Error("own log not opened again, the old file stays", "err", err)
			}
		}
		reopenAccess()
	}
	defer onReopen(reopen)()
	config := proxy.Config{
		Reopen: reopen,
		Admin:  c.String("admin-bind"), AdminAddressPath: c.String("admin-address-path"), LogLevel: level,
		DrainDelay: drainDelay(c), DrainTimeout: c.Duration("drain-timeout"),
		DrainTime: time.Duration(c.Int("drain-time-s")) * time.Second,
	}
	config.Listen.ChainDrain = config.DrainTime
	config.XDS.State.Dir = c.String("state-dir")
	if hasBootstrap(c) {
		err = fromBootstrap(c, &config, log)
	} else {
		err = fromConsul(c, &config, log)
	}
	config.XDS.ADS.Node.Envoy = c.String("envoy-version")
	switch {
	case errors.Is(err, context.Canceled):
		return nil // stopped before there was anything to serve
	case err != nil:
		return err
	}
	if validates(c) {
		if err := proxy.Validate(config, log); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "configuration '%s' OK\n", c.String("config-path"))
		return nil
	}
	if err := placesOf(c, &config, log); err != nil {
		return err
	}
	p, err := proxy.New(config, seen, log)
	if err != nil {
		return err
	}
	return serve(c.Context, p, log)
}

// validates tells whether the configuration is only looked at.
func validates(c *cli.Context) bool {
	mode := c.String("mode")
	return mode == "validate" || mode == "init_only"
}

func checkMode(c *cli.Context) error {
	mode := c.String("mode")
	var err error
	switch {
	case mode != "" && mode != "serve" && !validates(c):
		err = fmt.Errorf("-mode %q: it can be serve or validate", mode)
	case validates(c) && !hasBootstrap(c):
		err = fmt.Errorf("-mode %s: there is no bootstrap to look at, give it with -c or -config-yaml", mode)
	default:
		return nil
	}
	return &usageError{command: "connect", err: err}
}

// checkAdminBind looks at the form alone: whether it can be bound, its port says.
func checkAdminBind(c *cli.Context) error {
	address := c.String("admin-bind")
	if address == "" || strings.HasPrefix(address, "unix://") {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return &usageError{command: "connect", err: fmt.Errorf("-admin-bind %q: write it as host:port or unix:///path", address)}
	}
	return nil
}

// drainDelay is below 0 if the user says that there shall be none.
func drainDelay(c *cli.Context) time.Duration {
	if delay := c.Duration("drain-delay"); delay != 0 {
		return delay
	}
	return -1
}

func hasBootstrap(c *cli.Context) bool {
	return c.String("config-path") != "" || c.String("config-yaml") != ""
}

func fromBootstrap(c *cli.Context, config *proxy.Config, log *slog.Logger) error {
	file, err := bootstrap.Source{
		Path: c.String("config-path"), YAML: c.String("config-yaml"), Service: c.String("service-cluster"), Node: c.String("service-node"),
	}.Read()
	if err != nil {
		return err
	}
	for _, text := range file.Ignored {
		log.Warn("a part of the bootstrap has no effect", "what", text)
	}
	switch {
	case config.Admin != "":
	case file.Admin.Socket != "":
		config.Admin = "unix://" + file.Admin.Socket
	case file.Admin.AddrPort.IsValid():
		config.Admin = file.Admin.String()
	}
	config.AdminLog = file.AdminLog
	config.Bootstrap = file
	config.XDS.Static = xds.Static{
		Clusters: file.Static.Clusters, Listeners: file.Static.Listeners, Secrets: file.Static.Secrets,
	}
	config.XDS.ADS.Target = file.Target(os.Getenv)
	config.XDS.ADS.Token = file.Token
	config.XDS.ADS.Node = ads.Node{ID: file.Node.ID, Cluster: file.Node.Cluster, Metadata: file.Node.Metadata}
	if file.TLS != nil {
		if config.XDS.ADS.TLS, err = file.TLS.Config(); err != nil {
			return fmt.Errorf("bootstrap %s: %w", c.String("config-path"), err)
		}
	}
	log.Info("starting from bootstrap", "proxy", file.Node.ID, "xds", config.XDS.ADS.Target.String())
	return nil
}

// fromConsul asks the agent which proxy is meant, again and again while it
// cannot be reached.
func fromConsul(c *cli.Context, config *proxy.Config, log *slog.Logger) error {
	if err := checkIdentity(c); err != nil {
		return err
	}
	if err := serveReady(c, config); err != nil {
		return &usageError{command: "connect", err: err}
	}
	consul := consulConfig(c, nil)
	client, err := catalog.NewClient(consul)
	if err != nil {
		return err
	}
	file, err := identityFile(c, consul)
	if err != nil {
		return err
	}
	return untilHealed(c.Context, log, func() error {
		config.XDS.ADS, err = askConsul(c.Context,
			func() (*catalog.Proxy, error) { return identify(c, client) },
			func() (catalog.GRPC, error) { return catalog.XDSAddress(c.Context, client, consul) },
			consul, file, log)
		if err != nil {
			return err
		}
		log.Info("starting", "proxy", config.XDS.ADS.Node.ID, "service", config.XDS.ADS.Node.Cluster, "xds", config.XDS.ADS.Target.String())
		return nil
	})
}

func checkIdentity(c *cli.Context) error {
	given := 0
	for _, flag := range []string{"sidecar-for", "proxy-id"} {
		if c.String(flag) != "" {
			given++
		}
	}
	var err error
	switch gateway := c.String("gateway"); {
	case given > 1:
		err = errors.New("give one of -sidecar-for and -proxy-id")
	case gateway != "" && c.String("sidecar-for") != "":
		err = errors.New("-gateway and -sidecar-for do not go together")
	case (c.String("envoy-ready-bind-address") == "") != (c.Int("envoy-ready-bind-port") == 0):
		err = errors.New("-envoy-ready-bind-address and -envoy-ready-bind-port go together")
	case gateway != "" && gateway != "mesh" && gateway != "terminating" && gateway != "ingress" && gateway != "api":
		err = fmt.Errorf("-gateway %q: it can be mesh, terminating, ingress or api", gateway)
	case gateway == "" && c.Bool("register"):
		err = errors.New("-register is for gateways: a sidecar is registered with its service")
	case gateway == "" && given == 0:
		err = errors.New("which proxy? Give -sidecar-for, -proxy-id, -gateway, or a bootstrap file with -c")
	default:
		return nil
	}
	return &usageError{command: "connect", err: err}
}

func identify(c *cli.Context, client *catalog.Client) (*catalog.Proxy, error) {
	gateway, err := gatewayOf(c)
	if err != nil {
		return nil, err
	}
	switch {
	case gateway.Kind != "" && c.Bool("register"):
		return catalog.RegisterGateway(c.Context, client, gateway)
	case gateway.Kind != "":
		return catalog.FindGateway(c.Context, client, gateway)
	case c.String("sidecar-for") != "":
		return catalog.SidecarFor(c.Context, client, c.String("sidecar-for"))
	default:
		return catalog.ProxyByID(c.Context, client, c.String("proxy-id"))
	}
}

// untilHealed repeats f while Consul cannot be reached, at growing intervals,
// and tells so.
func untilHealed(ctx context.Context, log *slog.Logger, f func() error) error {
	pause := 250 * time.Millisecond
	for {
		err := f()
		if err == nil || !catalog.Heals(err) {
			return err
		}
		log.Error("waiting for Consul", "err", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause + rand.N(pause/4)):
		}
		pause = min(2*pause, 10*time.Second)
	}
}
