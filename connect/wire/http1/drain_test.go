package http1_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

func TestDrain(t *testing.T) {
	checkLeaks(t)
	arrived, proceed, abandon := make(chan bool), make(chan bool), make(chan bool)
	wait := func(until chan bool) wire.ServiceFunc {
		return func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			arrived <- true
			<-until
			return wire.Text(200, "slow"), nil
		}
	}
	r := serve(t, http1.Config{}, byPath{
		"/":      func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(200, "ok"), nil },
		"/slow":  wait(proceed),
		"/stuck": wait(abandon),
	})
	defer close(abandon)
	idle, busy, stuck := dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)
	idleReader := bufio.NewReader(idle)
	send(t, idle, get("/"))
	if resp, _ := answer(t, idleReader, "GET"); resp.Close {
		t.Error("close without a drain")
	}
	send(t, busy, get("/slow"))
	<-arrived
	send(t, stuck, get("/stuck"))
	<-arrived

	r.drain.CloseIdle()
	if _, err := idleReader.ReadByte(); err != io.EOF {
		t.Errorf("idle connection: %v", err)
	}
	close(proceed)
	buf := bufio.NewReader(busy)
	if resp, body := answer(t, buf, "GET"); !resp.Close || body != "slow" {
		t.Errorf("busy connection: %s %q, close %v", resp.Status, body, resp.Close)
	}
	if _, err := buf.ReadByte(); err != io.EOF {
		t.Errorf("busy connection afterwards: %v", err)
	}
	if n := r.drain.Kill(); n == 0 {
		t.Error("nothing was left to kill")
	}
	if _, err := stuck.Read(make([]byte, 1)); err == nil {
		t.Error("the connection was not killed")
	}
}

// TestLateRequest sends a request while the idle connection is being closed.
func TestLateRequest(t *testing.T) {
	checkLeaks(t)
	answered := 0
	for range 50 {
		r := serve(t, http1.Config{}, wire.ServiceFunc(describe))
		conn := dial(t, r.addr)
		br := bufio.NewReader(conn)
		send(t, conn, get("/"))
		answer(t, br, "GET")
		go r.drain.CloseIdle()
		io.WriteString(conn, get("/late"))
		if resp, err := http.ReadResponse(br, nil); err == nil {
			if answered++; resp.StatusCode != 200 {
				t.Errorf("got %s", resp.Status)
			}
			if _, err = io.ReadAll(resp.Body); err != nil {
				t.Errorf("a request was answered by half: %v", err)
			}
		}
	}
	t.Logf("%d of 50 late requests were answered", answered)
}

// TestAcceptedLate serves connections that were accepted just before the idle
// ones were closed, and register after that.
func TestAcceptedLate(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, wire.ServiceFunc(describe))
	r.drain.CloseIdle()
	conn, silent := dial(t, r.addr), dial(t, r.addr)
	br := bufio.NewReader(conn)
	send(t, conn, get("/"))
	if resp, _ := answer(t, br, "GET"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("got %s, close %v", resp.Status, resp.Close)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the connection lives on: %v", err)
	}
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent connection: %v", err)
	}
}
