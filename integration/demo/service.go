package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// serve is one demo service. web asks api, through its sidecar, and tells both
// answers; api only answers.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	name := flags.String("name", "web", "who answers")
	listen := flags.String("listen", "127.0.0.1:0", "address")
	upstream := flags.String("upstream", "", "address of the upstream's local listener")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: answer(*name, *upstream), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Println("serving", *name, "at", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(name, upstream string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A check that asked the upstream would stop web because of api.
		if upstream == "" || r.URL.Path == "/health" {
			fmt.Fprintln(w, name)
			return
		}
		text, status, err := ask(r, "http://"+upstream+"/")
		if err != nil {
			http.Error(w, "api: "+err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s, asked by %s, hears from %s", name, r.Header.Get("X-Serai-Consumer"), text)
	})
}

// ask passes the header on by which api's routes tell versions apart.
func ask(from *http.Request, url string) (string, int, error) {
	req, err := http.NewRequestWithContext(from.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", 0, err
	}
	if canary := from.Header.Get("X-Canary"); canary != "" {
		req.Header.Set("X-Canary", canary)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return string(text), resp.StatusCode, err
}
