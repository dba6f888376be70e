package http1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

func TestUpgrade(t *testing.T) {
	checkLeaks(t)
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		if !strings.Contains(head, "upgrade: echo\r\n") {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nX-A: b\r\n\r\nhello ")
		io.Copy(conn, r)
		io.WriteString(conn, " bye")
	})
	var ends recorder
	p := newPool(addr, http1.ClientConfig{Buffers: poisoned()})
	r := serve(t, http1.Config{}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		x.OnEnd(&ends)
		return p.Serve(x, req)
	}))
	conn := dial(t, r.addr)
	br := bufio.NewReader(conn)
	const upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	send(t, conn, upgrade+"early ")
	head, err := readHead(br)
	if want := "HTTP/1.1 101 Switching Protocols\r\nx-a: b\r\ndate: "; err != nil || !strings.HasPrefix(head, want) ||
		!strings.Contains(head, "connection: upgrade\r\nupgrade: echo\r\n") {
		t.Errorf("got %q, %v", head, err)
	}
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	expect("hello early ")
	for i := range 10 {
		text := fmt.Sprintf("message %d", i)
		send(t, conn, text)
		expect(text)
	}
	conn.(*net.TCPConn).CloseWrite() // the other half goes on
	expect(" bye")
	if _, err = br.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if diff := cmp.Diff([]string{"GET a /chat 101 in=96 out=106 flag=- sent=true err=false"}, ends.take()); diff != "" {
		t.Error(diff)
	}
	// An upstream that does not switch: the connection lives on.
	conn = dial(t, r.addr)
	br = bufio.NewReader(conn)
	for range 2 {
		send(t, conn, strings.ReplaceAll(upgrade, "echo", "other"))
		if resp, body := answer(t, br, "GET"); resp.StatusCode != 200 || body != "no" || resp.Close {
			t.Errorf("got %s %q", resp.Status, body)
		}
	}
	for seen := 0; seen < 2; {
		seen += len(ends.take())
	}
	// The client goes away.
	conn = dial(t, r.addr)
	send(t, conn, upgrade)
	readHead(bufio.NewReader(conn))
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	if seen := ends.take(); len(seen) != 1 {
		t.Errorf("ends: %q", seen)
	}
}

func TestConnect(t *testing.T) {
	checkLeaks(t)
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\n%s", strings.SplitN(head, "\r\n", 2)[0])
		io.Copy(conn, r)
	})
	r := relayTo(t, addr, http1.Config{Connect: true}, http1.ClientConfig{})
	conn := dial(t, r.addr)
	send(t, conn, "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n raw")
	br := bufio.NewReader(conn)
	head, err := readHead(br)
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\ndate: ") || strings.Contains(head, "length") || strings.Contains(head, "encoding") {
		t.Errorf("got %q, %v", head, err)
	}
	conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(br); err != nil || string(got) != "CONNECT b:443 HTTP/1.1 raw" {
		t.Errorf("got %q, %v", got, err)
	}
	conn = dial(t, r.addr)
	send(t, conn, "CONNECT /x HTTP/1.1\r\nHost: b\r\n\r\n")
	if resp, _ := answer(t, bufio.NewReader(conn), "GET"); resp.StatusCode != 400 {
		t.Errorf("got %s", resp.Status)
	}
}
