package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
)

// askFlags are those of commands that ask a running sidecar.
func askFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "admin-addr", Value: adminAddress(os.Environ()), EnvVars: []string{"SERAI_ADMIN_ADDR"},
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

// adminAddress is where the sidecar of a Nomad allocation is asked by who is inside, if
// there is one, else where `consul connect envoy` puts it.
func adminAddress(environment []string) string {
	found := ""
	for _, one := range environment {
		name, value, _ := strings.Cut(one, "=")
		if !strings.HasPrefix(name, "NOMAD_ENVOY_ADMIN_ADDR_") || value == "" {
			continue
		}
		if found != "" && found != value {
			return consulAdmin
		}
		found = value
	}
	return cmp.Or(found, consulAdmin)
}

const consulAdmin = "127.0.0.1:19000"

// passingFlags choose what passes a sidecar, in the same words for all commands.
func passingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "listener", Usage: "`name` of the listener, with or without its address"},
		&cli.StringFlag{Name: "upstream", Usage: "`service` that the sidecar's own application calls"},
		&cli.StringFlag{Name: "from", Aliases: []string{"peer"}, Usage: "who calls: a `service`, or a SPIFFE ID"},
	}
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// answerTimeout is how long the beginning of an answer may take.
const answerTimeout = 30 * time.Second

// ask gets a path of the sidecar's admin interface, or posts to it. Who calls closes the
// answer.
func ask(ctx context.Context, c *cli.Context, method, path string, query url.Values) (io.ReadCloser, error) {
	address := c.String("admin-addr")
	network, target := "tcp", address
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		network, target = "unix", socket
	} else if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, &usageError{command: "connect " + c.Command.Name, err: fmt.Errorf("-admin-addr %q: write it as host:port or unix:///path", address)}
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, ResponseHeaderTimeout: answerTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, target)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if unwrapped := errors.Unwrap(err); unwrapped != nil {
			err = unwrapped
		}
		return nil, fmt.Errorf("no admin interface at %s: does the sidecar run with -admin-bind, or is it elsewhere (-admin-addr)? (%w)", address, err)
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
	return nil, errors.New(safe(strings.TrimSpace(string(text))))
}

// read decodes an answer for people.
func read(answer io.Reader, into any) error {
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("answer of the admin interface: %w", err)
	}
	printable(reflect.ValueOf(into))
	return nil
}

// printable makes all texts in v such as a terminal only shows: what peers, callers and
// upstreams have said stands among them.
func printable(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			printable(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			printable(field)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			printable(v.Index(i))
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(safe(v.String()))
		}
	default:
	}
}

// safe is a text without what moves the cursor, or turns the direction of writing.
func safe(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
