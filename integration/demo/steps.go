package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// stepTime is how long a command may take until it prints what it should:
// Consul needs a moment to tell all proxies what the demo has configured.
const stepTime = 15 * time.Second

// readmeEdge, readmeDNS and readmeAdmin are the addresses in the README.
const (
	readmeEdge  = "127.0.0.1:8080"
	readmeDNS   = "127.0.0.1:8653"
	readmeAdmin = "127.0.0.1:9901"
)

// step is one command of the README with what it prints.
type step struct {
	title, command, want string
}

type steps []step

// readSteps reads the README's block after the marker "<!-- demo -->": lines
// with "# " are titles, with "$ " commands, all others what they print.
func readSteps() (steps, error) {
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return nil, err
	}
	_, block, ok := strings.Cut(string(text), "<!-- demo -->\n```console\n")
	if !ok {
		return nil, errors.New("README.md has no block of demo commands")
	}
	block, _, _ = strings.Cut(block, "\n```")
	var all steps
	title := ""
	for line := range strings.Lines(block + "\n") {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "# "):
			title = line[2:]
		case strings.HasPrefix(line, "$ "):
			all = append(all, step{title: title, command: line[2:]})
		case len(all) > 0 && line != "":
			all[len(all)-1].want += line + "\n"
		}
	}
	return all, nil
}

// at moves the commands to the real addresses.
func (s steps) at(edge, dns, admin string) {
	real := strings.NewReplacer(readmeEdge, edge, digs(readmeDNS), digs(dns), readmeAdmin, admin)
	for i := range s {
		s[i].command = real.Replace(s[i].command)
	}
}

// digs writes an address as dig wants it.
func digs(address string) string { return "@" + strings.Replace(address, ":", " -p ", 1) }

func (s steps) print() {
	fmt.Println("Paste these into another terminal:")
	for _, one := range s {
		fmt.Printf("\n  # %s\n  %s\n", one.title, one.command)
	}
}

// check runs each command until it prints what the README shows.
func (s steps) check(ctx context.Context) error {
	failed := 0
	for _, one := range s {
		got, err := one.run(ctx)
		if err != nil {
			return err
		}
		if got == one.want {
			fmt.Printf("ok    %s\n      $ %s\n", one.title, one.command)
			continue
		}
		failed++
		fmt.Printf("FAIL  %s\n      $ %s\n--- the README shows\n%s--- it prints\n%s", one.title, one.command, one.want, got)
	}
	fmt.Printf("\n%d passed, %d failed\n", len(s)-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d commands do not print what the README shows", failed, len(s))
	}
	return nil
}

func (s step) run(ctx context.Context) (string, error) {
	deadline := time.Now().Add(stepTime)
	for {
		out, err := exec.CommandContext(ctx, "bash", "-c", s.command).CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return "", fmt.Errorf("run %q: %w", s.command, err)
		}
		if string(out) == s.want || time.Now().After(deadline) || ctx.Err() != nil {
			return string(out), ctx.Err()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// freeAddress returns address, or one with a port that is free for TCP and UDP
// if it is in use.
func freeAddress(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	for _, try := range []string{address, net.JoinHostPort(host, "0"), net.JoinHostPort(host, "0")} {
		if found := bindable(try); found != "" {
			return found
		}
	}
	return address
}

// bindable is the address that is bound for try, "" if it is in use.
func bindable(try string) string {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", try)
	if err != nil {
		return ""
	}
	defer listener.Close()
	found := listener.Addr().String()
	packets, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", found)
	if err != nil {
		return ""
	}
	packets.Close()
	return found
}

// follow prints what is appended to a file until ctx ends.
func follow(ctx context.Context, path string) {
	file, err := os.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		<-ctx.Done()
		return
	}
	defer file.Close()
	for ctx.Err() == nil {
		io.Copy(os.Stdout, file) //nolint:errcheck // a log that cannot be shown is no reason to end
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
