package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// askFlags are those of commands that ask a running sidecar.
func askFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "admin-addr", Value: "127.0.0.1:19000", EnvVars: []string{"SERAI_ADMIN_ADDR"},
			Usage: "`address` of the sidecar's admin interface, host:port or unix:///path",
		},
		&cli.StringFlag{Name: "format", Value: "text", Usage: "text or json"},
	}
}

// asked is a command's answer format: true for JSON.
func wantsJSON(c *cli.Context) (bool, error) {
	switch format := c.String("format"); format {
	case "text":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, &usageError{command: "connect " + c.Command.Name, err: fmt.Errorf("-format %q: it can be text or json", format)}
	}
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// ask gets a path of the sidecar's admin interface. Who calls closes the answer.
func ask(ctx context.Context, c *cli.Context, path string, query url.Values) (io.ReadCloser, error) {
	address := c.String("admin-addr")
	network, target := "tcp", address
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		network, target = "unix", socket
	} else if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, &usageError{command: "connect " + c.Command.Name, err: fmt.Errorf("-admin-addr %q: write it as host:port or unix:///path", address)}
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, target)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if unwrapped := errors.Unwrap(err); unwrapped != nil {
			err = unwrapped
		}
		return nil, fmt.Errorf("no admin interface at %s: does the sidecar run, with -admin-bind? (%w)", address, err)
	}
	if resp.StatusCode == http.StatusOK && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return struct {
			io.Reader
			io.Closer
		}{resp.Body, resp.Body}, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusOK {
		return nil, fmt.Errorf("the admin interface at %s does not know this question: is it that of another program, or of an older serai?", address)
	}
	return nil, errors.New(strings.TrimSpace(string(text)))
}
