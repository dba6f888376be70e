package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
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
		Description: "A line for each, until Ctrl-C: when it began, its direction, who called, what, where it went, how long it\n" +
			"took, bytes in and out, and what went wrong. What comes faster than it can be written is dropped, and told.\n" +
			"-from also takes a part of the caller's address, -upstream the name of a cluster.\n\n" +
			"Examples:\n\n" +
			"  serai connect tap\n" +
			"  serai connect tap -upstream api -status 5xx\n" +
			"  serai connect tap -from web -min-duration 100ms -format json -n 10",
		Flags: append(append(passingFlags(),
			&cli.StringFlag{Name: "method", Usage: "`method` of the request"},
			&cli.StringFlag{Name: "path", Usage: "what the `path` begins with"},
			&cli.StringFlag{Name: "status", Usage: "`code` of the response, or a class such as 5xx"},
			&cli.DurationFlag{Name: "min-duration", Usage: "leave out what took less `time`"},
			&cli.Float64Flag{Name: "sample", Value: 100, Usage: "`percentage` of them that is looked at"},
			&cli.IntFlag{Name: "n", Usage: "end after so many `lines`", DefaultText: "never"},
		), askFlags()...),
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
	if err := checkTap(c); err != nil {
		return &usageError{command: "connect tap", err: err}
	}
	query := url.Values{"sample": {strconv.FormatFloat(c.Float64("sample"), 'g', -1, 64)}}
	for name, flag := range map[string]string{
		"listener": "listener", "upstream": "upstream", "method": "method", "path": "path", "status": "status", "peer": "from",
	} {
		if value := c.String(flag); value != "" {
			query.Set(name, value)
		}
	}
	if d := c.Duration("min-duration"); d > 0 {
		query.Set("min_duration", d.String())
	}
	answer, err := ask(c.Context, c, http.MethodGet, proxy.TapPath, query)
	if err != nil {
		return err
	}
	defer answer.Close()
	if colours(os.Stderr) {
		fmt.Fprintln(os.Stderr, "watching "+c.String("admin-addr")+" until Ctrl-C")
	}
	err = printTap(c.App.Writer, answer, inJSON, c.Int("n"))
	if errors.Is(c.Err(), context.Canceled) {
		return nil // that is how it ends
	}
	return err
}

// checkTap tells what is wrong with the flags.
func checkTap(c *cli.Context) error {
	status, sample := c.String("status"), c.Float64("sample")
	switch {
	case c.Int("n") < 0:
		return fmt.Errorf("-n %d: it cannot be less than 0", c.Int("n"))
	case !(sample > 0 && sample <= 100): // nor can it be NaN
		return fmt.Errorf("-sample %g: it can be more than 0, up to 100", sample)
	case c.Duration("min-duration") < 0:
		return fmt.Errorf("-min-duration %s: it cannot be less than 0", c.Duration("min-duration"))
	case status != "" && !telemetry.IsStatus(status):
		return fmt.Errorf("-status %q: write a code such as 404, or a class such as 5xx", status)
	}
	return nil
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
			printable(reflect.ValueOf(&line.Tapped))
			fmt.Fprintln(out, tapLine(&line.Tapped))
		}
		if line.Dropped != nil {
			continue
		}
		if written++; n > 0 && written >= n {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the sidecar tells no more: %w", err)
	}
	return errors.New("the sidecar tells no more: it has ended")
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
