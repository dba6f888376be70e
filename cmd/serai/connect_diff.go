package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds"
)

func connectDiffCommand() *cli.Command {
	return &cli.Command{
		Name:  "diff",
		Usage: "show what the last update from Consul has changed in a running sidecar",
		Description: "Resources that were added, removed and changed are named, the fields of the changed ones with\n" +
			"what was and what is. Keys and certificates are shown by their hash.\n\n" +
			"Examples:\n\n" +
			"  serai connect diff\n" +
			"  serai connect diff -n 10 -format json",
		Flags:  append([]cli.Flag{&cli.IntFlag{Name: "n", Value: 1, Usage: "how many updates, the latest first; 0 means all that are remembered"}}, askFlags()...),
		Action: runConnectDiff,
	}
}

func runConnectDiff(c *cli.Context) error {
	inJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	if name := c.Args().First(); name != "" {
		return &usageError{command: "connect diff", err: fmt.Errorf("%q is no flag: flags begin with a dash", name)}
	}
	if c.Int("n") < 0 {
		return &usageError{command: "connect diff", err: fmt.Errorf("-n %d: it cannot be less than 0", c.Int("n"))}
	}
	answer, err := ask(c.Context, c, http.MethodGet, proxy.ChangesPath, url.Values{"n": {strconv.Itoa(c.Int("n"))}})
	if err != nil {
		return err
	}
	defer answer.Close()
	if inJSON {
		_, err := io.Copy(c.App.Writer, io.LimitReader(answer, maxAnswer))
		return err
	}
	var all []xds.Change
	if err := read(answer, &all); err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing has changed yet")
	}
	for i := range all {
		printChange(c.App.Writer, &all[i])
	}
	return nil
}

func printChange(out io.Writer, change *xds.Change) {
	what := "endpoints"
	if change.Version > 0 {
		what = "configuration " + strconv.FormatUint(change.Version, 10)
	}
	fmt.Fprintf(out, "%s\n", paint(os.Stdout, bold, change.At.Local().Format(time.DateTime)+" "+what))
	for _, r := range change.Resources {
		mark := paint(os.Stdout, yellow, "~")
		switch r.What {
		case "added":
			mark = paint(os.Stdout, green, "+")
		case "removed":
			mark = paint(os.Stdout, red, "-")
		}
		fmt.Fprintf(out, "  %s %s %s\n", mark, r.Kind, r.Name)
		for _, field := range r.Fields {
			fmt.Fprintf(out, "      %s\n", field)
		}
		if r.More > 0 {
			fmt.Fprintf(out, "      and %d more\n", r.More)
		}
	}
	if change.More > 0 {
		fmt.Fprintf(out, "  and %d more\n", change.More)
	}
}
