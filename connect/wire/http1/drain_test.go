package http1_test

import (
	"bufio"
	"io"
	"net/http"
	"testing"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

func TestDrain(t *testing.T) {
	checkLeaks(t)
	arrived, proceed, release := make(chan bool), make(chan bool), make(chan bool)
	r := serve(t, http1.Config{}, byPath{
		"/": func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(200, "ok"), nil },
		"/slow": func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			arrived <- true
			<-proceed
			return wire.Text(200, "slow"), nil
		},
		"/stuck": func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			arrived <- true
			<-release
			return wire.Text(200, "stuck"), nil
		},
	})
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
	proceed <- true
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
	release <- true
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
