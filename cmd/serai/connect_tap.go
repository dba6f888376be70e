package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/proxy"
)

func connectTapCommand() *cli.Command {
	return &cli.Command{
		Name:  "tap",
		Usage: "watch the exchanges and connections of a running sidecar as they end",
		Description: "A line for each, until Ctrl-C. What comes faster than it can be written is dropped, and told.\n\n" +
			"Examples:\n\n" +
			"  serai connect tap\n" +
			"  serai connect tap -upstream api -status 5xx\n" +
			"  serai connect tap -peer web -min-duration 100ms -format json -n 10",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "listener", Usage: "`name` of the listener, with or without its address"},
			&cli.StringFlag{Name: "upstream", Usage: "`name` of the cluster, or of the service that it begins with"},
			&cli.StringFlag{Name: "method", Usage: "`method` of the request"},
			&cli.StringFlag{Name: "path", Usage: "what the `path` begins with"},
			&cli.StringFlag{Name: "status", Usage: "`code` of the response, or a class such as 5xx"},
			&cli.StringFlag{Name: "peer", Usage: "`part` of the caller's SPIFFE ID or address, or of the consumer's name"},
			&cli.DurationFlag{Name: "min-duration", Usage: "leave out what took less `time`"},
			&cli.Float64Flag{Name: "sample", Value: 100, Usage: "`percentage` of them that is looked at"},
			&cli.IntFlag{Name: "n", Usage: "end after so many `lines`", DefaultText: "never"},
		}, askFlags()...),
		Action: runConnectTap,
	}
}

func runConnectTap(c *cli.Context) error {
	inJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	if name := c.Args().First(); name != "" {
		return &usageError{command: "connect tap", err: fmt.Errorf("%q is no flag: flags begin with a dash", name)}
	}
	query := url.Values{"sample": {strconv.FormatFloat(c.Float64("sample"), 'g', -1, 64)}}
	for _, name := range []string{"listener", "upstream", "method", "path", "status", "peer"} {
		if value := c.String(name); value != "" {
			query.Set(name, value)
		}
	}
	if d := c.Duration("min-duration"); d > 0 {
		query.Set("min_duration", d.String())
	}
	answer, err := ask(c.Context, c, proxy.TapPath, query)
	if err != nil {
		return err
	}
	defer answer.Close()
	err = printTap(c.App.Writer, answer, inJSON, c.Int("n"))
	if errors.Is(c.Err(), context.Canceled) {
		return nil // that is how it ends
	}
	return err
}

// printTap writes what comes, up to n lines; 0 means no bound.
func printTap(out io.Writer, in io.Reader, inJSON bool, n int) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for written := 0; lines.Scan(); {
		var line struct {
			telemetry.Tapped
			Dropped *int64 `json:"dropped"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("answer of the admin interface: %w", err)
		}
		switch {
		case inJSON:
			fmt.Fprintf(out, "%s\n", lines.Bytes())
		case line.Dropped != nil:
			fmt.Fprintln(out, paint(os.Stdout, yellow, fmt.Sprintf("%d dropped so far", *line.Dropped)))
		default:
			fmt.Fprintln(out, tapLine(&line.Tapped))
		}
		if line.Dropped != nil {
			continue
		}
		if written++; n > 0 && written >= n {
			return nil
		}
	}
	return lines.Err()
}

// tapLine is one exchange for people.
func tapLine(t *telemetry.Tapped) string {
	who := cmp.Or(t.Peer, t.Address, "-")
	if at := strings.LastIndex(who, "/svc/"); at >= 0 {
		who = who[at+len("/svc/"):]
	}
	what := "connection"
	if t.Method != "" {
		what = fmt.Sprintf("%s %s%s %d", t.Method, t.Authority, t.Path, t.Status)
	}
	colour := green
	switch {
	case t.Status >= 500 || t.Flag != "" && t.Status == 0:
		colour = red
	case t.Status >= 400 || t.Flag != "":
		colour = yellow
	}
	line := fmt.Sprintf("%s %-8s %s -> %s %s %s %s/%s bytes", t.Time.Local().Format("15:04:05.000"), t.Direction, who, paint(os.Stdout, colour, what),
		cmp.Or(t.Endpoint, t.Cluster, "-"), time.Duration(t.Millis*float64(time.Millisecond)).Round(10*time.Microsecond),
		strconv.FormatInt(t.BytesIn, 10), strconv.FormatInt(t.BytesOut, 10))
	if t.Flag != "" {
		line += " " + t.Flag
	}
	if t.Error != "" {
		line += " " + t.Error
	}
	return line
}
