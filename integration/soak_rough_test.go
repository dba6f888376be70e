package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// rough are the actors who use connections themselves: those of tcp, of upgrades, and those who do what no client should.
func (s *soak) rough(t *testing.T) []actor {
	t.Helper()
	edge, web, db := s.gate.addr, local(s.web.upstreams["api"]), local(s.web.upstreams["db"])
	var all []actor
	add := func(name, addr string, act func(context.Context, *rand.Rand, *net.TCPConn) (string, error)) {
		all = append(all, actor{name: name, act: func(ctx context.Context, random *rand.Rand) (string, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return "dial", err
			}
			defer drop(conn)
			if until, ok := ctx.Deadline(); ok {
				_ = conn.SetDeadline(until)
			}
			return act(ctx, random, conn.(*net.TCPConn)) //nolint:errcheck,forcetypeassert // it is one
		}})
	}
	for range 3 {
		add("tcp", db, soakTCP)
	}
	add("upgrade by the edge", edge, upgradeAt("/api"))
	add("upgrade by sidecars", web, upgradeAt(""))
	add("pipeline by the edge", edge, pipelineAt("/api"))
	add("pipeline by sidecars", web, pipelineAt(""))
	for name, addr := range map[string]string{
		"edge": edge, "edge with TLS": s.secure, "sidecar": web, "public listener": s.public,
	} {
		add("stall at the "+name, addr, stall)
		add("garbage at the "+name, addr, garbage)
	}
	return all
}

// soakTCP talks with the tcp app, which sends all back, and its hash in the end.
func soakTCP(_ context.Context, random *rand.Rand, conn *net.TCPConn) (string, error) {
	data := random256(random, 1+random.IntN(1<<uint(4+random.IntN(16)))) //nolint:gosec // small
	written := make(chan error, 1)
	leave := random.IntN(3) == 0
	go func() {
		_, err := conn.Write(data)
		if err == nil && !leave {
			err = conn.CloseWrite()
		}
		written <- err
	}()
	var from io.Reader = conn
	if random.IntN(3) == 0 {
		from = &slowReader{reader: conn, pause: time.Millisecond, most: 1 + len(data)/20}
	}
	if leave {
		back := make([]byte, random.IntN(len(data)))
		_, err := io.ReadFull(from, back)
		reset(conn)
		<-written //nolint:errcheck // it was cut off
		if err == nil && !bytes.Equal(back, data[:len(back)]) {
			err = errMirror
		}
		return "reset", err
	}
	back, err := io.ReadAll(from)
	if err = errors.Join(err, <-written); err == nil && string(back) != string(data)+fmt.Sprintf("%x", sha256.Sum256(data)) {
		err = fmt.Errorf("%w: %d bytes, %d", errMirror, len(data), len(back))
	}
	return "half-close", err
}

// upgradeAt switches protocols and sends bytes to and fro.
func upgradeAt(prefix string) func(context.Context, *rand.Rand, *net.TCPConn) (string, error) {
	head := "GET " + prefix + "/upgrade HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + acmeKey + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	return func(_ context.Context, random *rand.Rand, conn *net.TCPConn) (string, error) {
		data := random256(random, 1+random.IntN(100_000))
		if _, err := io.WriteString(conn, head); err != nil {
			return "head", err
		}
		reader := bufio.NewReader(conn)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			return "head", err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusSwitchingProtocols {
			return "head", &statusError{resp.StatusCode, ""}
		}
		written := make(chan error, 1)
		go func() {
			_, err := conn.Write(data)
			written <- err
		}()
		back := make([]byte, len(data))
		_, err = io.ReadFull(reader, back)
		if err = errors.Join(err, <-written); err == nil && !bytes.Equal(back, data) {
			err = errMirror
		}
		if err != nil || random.IntN(2) == 0 {
			reset(conn)
			return "reset", err
		}
		if err = conn.CloseWrite(); err == nil {
			_, err = reader.ReadByte() // the app closes its half, too
			if errors.Is(err, io.EOF) {
				err = nil
			}
		}
		return "half-close", err
	}
}

// pipelineAt sends requests without waiting for answers, which must come in order.
func pipelineAt(prefix string) func(context.Context, *rand.Rand, *net.TCPConn) (string, error) {
	return func(_ context.Context, random *rand.Rand, conn *net.TCPConn) (string, error) {
		var all strings.Builder
		count := 1 + random.IntN(20)
		for n := range count {
			fmt.Fprintf(&all, "GET %s/headers?%d HTTP/1.1\r\nHost: a\r\nX-Api-Key: %s\r\n\r\n", prefix, n, acmeKey)
		}
		pieces := &slowReader{reader: strings.NewReader(all.String()), most: 1 + random.IntN(all.Len())}
		if random.IntN(2) == 0 {
			pieces.pause = time.Millisecond
			pieces.most = 1 + all.Len()/(1+random.IntN(20))
		}
		if _, err := io.Copy(conn, pieces); err != nil {
			return "write", err
		}
		leave := count
		if random.IntN(3) == 0 {
			leave = random.IntN(count)
		}
		reader := bufio.NewReader(conn)
		for n := range leave {
			if err := pipelined(reader, fmt.Sprintf("/headers?%d", n)); err != nil {
				return "answer", fmt.Errorf("the answer to %d of %d: %w", n, count, err)
			}
		}
		if leave < count {
			reset(conn)
			return "reset", nil
		}
		return "whole", nil
	}
}

// pipelined reads the answer to a request for path.
func pipelined(reader *bufio.Reader, path string) error {
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &statusError{resp.StatusCode, string(text)}
	}
	var got seen
	if err := json.Unmarshal(text, &got); err != nil {
		return err
	}
	if got.Path != path {
		return fmt.Errorf("%w: %s", errMirror, got.Path)
	}
	return nil
}

// stall begins something, a handshake or a head, and does not go on.
func stall(ctx context.Context, random *rand.Rand, conn *net.TCPConn) (string, error) {
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x10\x01\x04\x00\x00\x00\x01\x82"
	head := "POST /api/echo HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + acmeKey + "\r\nContent-Length: 100000\r\n\r\nabc"
	begin := []string{hello, preface, head}[random.IntN(3)]
	_, _ = io.WriteString(conn, begin[:random.IntN(len(begin)+1)]) // it may close at any time
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(random.IntN(1000)) * time.Millisecond):
	}
	if random.IntN(2) == 0 {
		reset(conn)
	}
	return "stalled", nil
}

// garbage is either not answered, or by an error.
func garbage(_ context.Context, random *rand.Rand, conn *net.TCPConn) (string, error) {
	data := random256(random, 1+random.IntN(300))
	if random.IntN(2) == 0 {
		data = append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), data...)
	}
	_, _ = conn.Write(append(data, "\r\n\r\n"...)) // it may close at any time
	_ = conn.CloseWrite()
	answer := make([]byte, 12)
	n, _ := io.ReadFull(conn, answer)
	if text := string(answer[:n]); strings.HasPrefix(text, "HTTP/1.1 ") && !strings.HasPrefix(text, "HTTP/1.1 4") && !strings.HasPrefix(text, "HTTP/1.1 5") {
		return "garbage", fmt.Errorf("%w: %q", errAnswered, text)
	}
	return "garbage", nil
}
