//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// probeTime is what a proxy that listens may take until it answers.
const probeTime = 15 * time.Second

// probe asks a proxy once for what the load will ask it again and again, by a client that checks all of the answer,
// until it is right.
func probe(ctx context.Context, s *scenario, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, fmt.Errorf("not within %v", probeTime))
	defer cancel()
	protocols := &http.Protocols{}
	version := 2
	switch {
	case s.streamed() && s.load.TLS:
		protocols.SetHTTP2(true)
	case s.streamed():
		protocols.SetUnencryptedHTTP2(true)
	default:
		protocols.SetHTTP1(true)
		version = 1
	}
	transport := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{ServerName: serverName, InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return harness.Until(ctx, "a right answer", func(ctx context.Context) error {
		req, want, err := probeRequest(ctx, s, addr)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return err
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("status %d: %.200s", resp.StatusCode, got)
		case resp.ProtoMajor != version:
			return fmt.Errorf("it speaks %s", resp.Proto)
		case !bytes.Equal(got, want):
			return fmt.Errorf("a body of %d bytes, not of %d", len(got), len(want))
		case s.grpc() && resp.Trailer.Get("grpc-status") != "0":
			return errors.New("no grpc-status 0 in the trailers")
		}
		return nil
	})
}

// probeRequest gives a request and the body that answers it.
func probeRequest(ctx context.Context, s *scenario, addr string) (*http.Request, []byte, error) {
	scheme := "http://"
	if s.tls {
		scheme = "https://"
	}
	url := scheme + addr + s.paths()[0]
	if !s.grpc() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		return req, bytes.Repeat([]byte("x"), s.load.Body), err
	}
	body := message(s.load.Body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	return req, body, nil
}
