package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// defaultEnvoy is the version of Envoy that we stand for: the newest that Consul
// 1.22 takes.
const defaultEnvoy = "1.35.8"

// envEnvoy names another one.
const envEnvoy = "SERAI_ENVOY_VERSION"

// envoyFlags are those of Envoy's command line that are more than accepted.
func envoyFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Category: "Envoy"}
	}
	return []cli.Flag{
		text("config-yaml", "bootstrap as `text`, YAML or JSON, merged over the file of -c"),
		text("log-path", "`file` for Serai's own log (default: standard error)"),
		text("mode", "serve, or validate: read the configuration, say whether it is understood, and end"),
		text("service-cluster", "`name` in place of the bootstrap's node.cluster"),
		text("service-node", "`ID` in place of the bootstrap's node.id"),
		text("admin-address-path", "`file` to which the address of the admin interface is written"),
		&cli.StringFlag{Name: "envoy-version", Usage: "`x.y.z` of the Envoy that we say we are, to Consul and in --version", Value: defaultEnvoy, EnvVars: []string{envEnvoy}, Category: "Envoy"},
		&cli.IntFlag{Name: "drain-time-s", Usage: "`seconds` that connections of removed filter chains may live on, and that POST /drain_listeners?graceful takes", DefaultText: "60", Category: "Envoy"},
	}
}

// acceptedFlags are flags of Envoy that change nothing here, and whether they
// have a value. What they are for there is none of, or always so.
func acceptedFlags() map[string]bool {
	return map[string]bool{
		"component-log-level": true, "drain-strategy": true, "parent-shutdown-time-s": true, "restart-epoch": true,
		"base-id": true, "base-id-path": true, "use-dynamic-base-id": false, "disable-hot-restart": false,
		"local-address-ip-version": true, "file-flush-interval-msec": true, "file-flush-min-size-kb": true,
		"service-zone": true, "disable-extensions": true, "socket-path": true, "socket-mode": true, "stats-tag": true,
		"skip-hot-restart-on-no-parent": false, "skip-hot-restart-parent-stats": false, "skip-deprecated-logs": false,
		"allow-unknown-fields": false, "allow-unknown-static-fields": false, "reject-unknown-dynamic-fields": false,
		"ignore-unknown-dynamic-fields": false, "log-format-escaped": false, "enable-fine-grain-logging": false,
		"enable-mutex-tracing": false, "enable-core-dump": false, "cpuset-threads": false, "bootstrap-version": true,
		"ignore_rest": false,
	}
}

// asEnvoy tells whether a program that is called so was meant to be Envoy.
func asEnvoy(program string) bool { return filepath.Base(program) == "envoy" }

// fromEnvoy makes a command line of ours of one of Envoy's. It does so for who
// calls us by the name of envoy, and for `serai connect` with a bootstrap; any
// other command line is as it was. Flags that we do not have are dropped; those
// that Envoy does not have either are told on warnings, since whoever starts an
// Envoy may be newer than we are.
func fromEnvoy(args []string, warnings io.Writer) []string {
	var rest []string
	switch {
	case len(args) > 1 && asEnvoy(args[0]) && asks(args[1]):
		return append([]string{args[0], "connect"}, args[1:]...)
	case len(args) > 0 && asEnvoy(args[0]):
		rest = args[1:]
	case len(args) > 1 && args[1] == "connect" && slices.ContainsFunc(args[2:], isBootstrap):
		rest = args[2:]
	default:
		return args
	}
	ours := map[string]bool{"help": false, "h": false, "version": false, "generate-bash-completion": false}
	for _, flag := range connectCommand().Flags {
		_, single := flag.(*cli.BoolFlag)
		for _, name := range flag.Names() {
			ours[name] = !single
		}
	}
	out := []string{args[0], "connect"}
	for i := 0; i < len(rest); i++ {
		name, _, whole := strings.Cut(strings.TrimLeft(rest[i], "-"), "=")
		if !strings.HasPrefix(rest[i], "-") {
			out = append(out, rest[i])
			continue
		}
		valued, known := ours[name]
		follows := !whole && i+1 < len(rest)
		if known {
			out = append(out, rest[i])
			if valued && follows {
				i++
				out = append(out, rest[i])
			}
			continue
		}
		valued, accepted := acceptedFlags()[name]
		if !accepted {
			fmt.Fprintf(warnings, "serai: flag %s is not known and has no effect\n", rest[i])
			valued = follows && !strings.HasPrefix(rest[i+1], "-")
		}
		if valued && follows {
			i++
		}
	}
	return out
}

// asks tells whether a word is one of our commands that ask a proxy, which have no
// other name in an image where we are called envoy.
func asks(word string) bool {
	return slices.ContainsFunc(connectSubcommands(), func(sub *cli.Command) bool { return sub.Name == word })
}

// isBootstrap tells whether an argument is a flag that names a bootstrap.
func isBootstrap(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return strings.HasPrefix(arg, "-") && (name == "c" || name == "config-path" || name == "config-yaml")
}

// wantsVersion answers --version as Envoy does; Consul takes the first x.y.z of
// it. It looks for it before anything else is read, as Envoy does.
func wantsVersion(args []string) bool {
	return (asEnvoy(args[0]) && slices.Contains(args[1:], "--version")) ||
		(len(args) > 2 && args[1] == "connect" && slices.Contains(args[2:], "--version"))
}

// printEnvoyVersion prints what Envoy does, of the version that we stand for.
func printEnvoyVersion(args []string, to io.Writer) error {
	number := defaultEnvoy
	if set := os.Getenv(envEnvoy); set != "" {
		number = set
	}
	for i, arg := range args {
		if value, ok := strings.CutPrefix(strings.TrimLeft(arg, "-"), "envoy-version="); ok {
			number = value
		} else if strings.TrimLeft(arg, "-") == "envoy-version" && i+1 < len(args) {
			number = args[i+1]
		}
	}
	if err := checkEnvoyVersion(number); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "\nenvoy  version: %s/%s/serai-%s/RELEASE/Go\n\n", revision(), number, strings.Trim(version(), "()"))
	return err
}

func checkEnvoyVersion(number string) error {
	if !regexp.MustCompile(`^\d{1,5}\.\d{1,5}\.\d{1,5}$`).MatchString(number) {
		return &usageError{command: "connect", err: fmt.Errorf("-envoy-version %q: write for example %s", number, defaultEnvoy)}
	}
	return nil
}

// revision is the commit that was built, as far as that is known.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return strings.Repeat("0", 40)
}
