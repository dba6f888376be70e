package http2_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// piped serves the other end of a pipe, in a bubble of synctest. What the server
// says is collected.
func piped(t *testing.T, cfg serai.Config, service wire.Service, drain *wire.Drain) (r *raw, said chan string) {
	t.Helper()
	ours, theirs := net.Pipe()
	s := serai.NewServer(cfg, func() wire.Service { return service }, slog.New(slog.DiscardHandler))
	go s.Serve(theirs, &wire.Peer{}, drain)
	r = newRaw(t, ours)
	ours.SetDeadline(time.Time{})
	return r, listenTo(r)
}

// listenTo reads events until the end.
func listenTo(r *raw) (said chan string) {
	said = make(chan string, 100)
	go func() {
		defer close(said)
		for {
			event := r.next()
			said <- event
			if event == "EOF" || strings.HasPrefix(event, "error") {
				return
			}
		}
	}()
	return said
}

func (r *raw) hello() {
	io.WriteString(r.conn, http2.ClientPreface)
	r.fr.WriteSettings()
}

// after tells what was said, and that it took that long.
func after(t *testing.T, said chan string, d time.Duration, want string) {
	t.Helper()
	start := time.Now()
	for event := range said {
		if event == want {
			if took := time.Since(start); took < d || took > d+d/5+2*time.Second {
				t.Errorf("%s came after %v, not %v", want, took, d)
			}
			return
		}
		if event == "EOF" {
			break
		}
	}
	t.Errorf("%s did not come", want)
}

// wait waits for the context of x.
func wait(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
	<-x.Context().Done()
	return nil, wire.Aborted(x.Aborted())
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, serai.Config{IdleTimeout: time.Minute, Bounds: serai.Bounds{PingInterval: -1}}, wire.ServiceFunc(echo), nil)
		r.hello()
		r.get(1)
		after(t, said, 0, `DATA 1 "GET a/" end`)
		after(t, said, time.Minute, "GOAWAY NO_ERROR")
		after(t, said, 0, "EOF")
	})
}

func TestPrefaceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, said := piped(t, serai.Config{}, wire.ServiceFunc(echo), nil)
		after(t, said, 10*time.Second, "EOF")
	})
}

func TestHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, serai.Config{}, wire.ServiceFunc(echo), nil)
		r.hello()
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET")...)})
		after(t, said, 10*time.Second, "EOF")
	})
}

func TestBodyTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, serai.Config{}, wire.ServiceFunc(echo), nil)
		r.hello()
		r.post(1)
		after(t, said, time.Minute, "HEADERS 1 :status=408 content-length=21")
		after(t, said, 0, "RST 1 NO_ERROR")
		r.conn.Close()
	})
}

// TestWindowKeptShut leaves the window of a stream shut and goes on to say what wakes
// all of them. That does not give it more time.
func TestWindowKeptShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, serai.Config{}, wire.ServiceFunc(echo), nil)
		io.WriteString(r.conn, http2.ClientPreface)
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		r.get(1)
		var awake sync.WaitGroup
		awake.Go(func() {
			for range 60 {
				if r.fr.WriteSettings() != nil || r.fr.WriteWindowUpdate(0, 1) != nil {
					return
				}
				time.Sleep(10 * time.Second)
			}
		})
		after(t, said, time.Minute, "RST 1 CANCEL")
		r.conn.Close()
		awake.Wait()
	})
}

// TestRequestTimeout gives a request that long to be whole, unless the response has
// begun before.
func TestRequestTimeout(t *testing.T) {
	cfg := serai.Config{RequestTimeout: 10 * time.Second}
	var upload sync.WaitGroup
	tick := func(r *raw) {
		for range 60 {
			if r.fr.WriteData(1, false, []byte("x")) != nil {
				return
			}
			time.Sleep(time.Second)
		}
		r.fr.WriteData(1, true, []byte("y"))
	}
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, cfg, wire.ServiceFunc(echo), nil)
		r.hello()
		r.post(1)
		upload.Go(func() { tick(r) })
		after(t, said, 10*time.Second, "HEADERS 1 :status=408 content-length=21")
		r.conn.Close()
		upload.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, cfg, wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: req.Body}, nil
		}), nil)
		r.hello()
		r.post(1)
		upload.Go(func() { tick(r) })
		after(t, said, 0, `DATA 1 "x"`)
		for event := range said {
			if strings.HasSuffix(event, "end") || !strings.HasPrefix(event, "DATA") {
				if !strings.HasPrefix(event, `DATA 1 "`) {
					t.Errorf("said %s", event)
				}
				break
			}
		}
		r.conn.Close()
		upload.Wait()
	})
}

// TestTunnelPauses lets a tunnel pause for as long as its exchange may.
func TestTunnelPauses(t *testing.T) {
	for _, test := range []struct{ idle, want time.Duration }{
		{0, time.Hour}, {20 * time.Second, 20 * time.Second}, {2 * time.Hour, 2 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan error, 1)
			r, _ := piped(t, serai.Config{Connect: true}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
				x.IdleTimeout = test.idle
				return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: listener{req.Body, ended}}, nil
			}), nil)
			r.hello()
			start := time.Now()
			r.headers(1, false, ":method", "CONNECT", ":authority", "a:1")
			time.Sleep(5 * time.Second)
			r.fr.WriteData(1, false, []byte("x"))
			err := <-ended
			if fault := wire.AsFault(err); fault.Status != 408 || time.Since(start) != test.want+5*time.Second {
				t.Errorf("%v after %v, want %v", err, time.Since(start), test.want)
			}
			r.conn.Close()
		})
	}
}

// listener is the response of a tunnel that only listens, and ends with what it hears.
type listener struct {
	wire.Body
	ended chan error
}

func (l listener) Read([]byte) (int, error) {
	var err error
	for err == nil {
		_, err = l.Body.Read(make([]byte, 10))
	}
	l.ended <- err
	return 0, io.EOF
}

// TestPing closes a connection whose client is gone without a word, but not one
// that answers.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said := piped(t, serai.Config{IdleTimeout: time.Hour}, wire.ServiceFunc(wait), nil)
		r.hello()
		r.get(1)
		time.Sleep(20 * time.Minute) // next() answers PINGs
		select {
		case event := <-said:
			t.Errorf("said %s", event)
		default:
		}
		r.conn.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := serai.NewServer(serai.Config{}, func() wire.Service { return wire.ServiceFunc(wait) }, slog.New(slog.DiscardHandler))
		start := time.Now()
		done := make(chan bool)
		go func() {
			s.Serve(theirs, &wire.Peer{}, nil)
			close(done)
		}()
		go io.Copy(io.Discard, ours) // reads, and never answers
		r := newRaw(t, ours)
		ours.SetDeadline(time.Time{})
		r.hello()
		<-done
		if took := time.Since(start); took != 50*time.Second {
			t.Errorf("it took %v", took)
		}
		ours.Close()
	})
}

// TestSlowDownload reads a response so slowly that a PING is long behind it.
func TestSlowDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 600 << 10
		ours, theirs := net.Pipe()
		s := serai.NewServer(serai.Config{}, func() wire.Service {
			return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
				return &wire.Response{Status: 200, ContentLength: size, Body: wire.NewBytes(make([]byte, size))}, nil
			})
		}, slog.New(slog.DiscardHandler))
		go s.Serve(theirs, &wire.Peer{}, nil)
		r := newRaw(t, slowConn{ours})
		ours.SetDeadline(time.Time{})
		io.WriteString(ours, http2.ClientPreface)
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		r.fr.WriteWindowUpdate(0, 1<<20)
		r.get(1)
		for said := listenTo(r); ; {
			event := <-said
			if strings.HasSuffix(event, "end") {
				break
			}
			if !strings.HasPrefix(event, "DATA") && !strings.HasPrefix(event, "HEADERS") {
				t.Errorf("said %s", event)
				break
			}
		}
		ours.Close()
	})
}

// TestSlowWindow opens the window of a stream as soon as its bytes have come, which takes
// long since those of another one are before them.
func TestSlowWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, window = 600 << 10, 1000
		ours, theirs := net.Pipe()
		s := serai.NewServer(serai.Config{}, func() wire.Service {
			return wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
				n := int64(2 * window)
				if req.Path == "/large" {
					n = size
				}
				return &wire.Response{Status: 200, ContentLength: n, Body: wire.NewBytes(make([]byte, n))}, nil
			})
		}, slog.New(slog.DiscardHandler))
		go s.Serve(theirs, &wire.Peer{}, nil)
		r := newRaw(t, slowConn{ours})
		ours.SetDeadline(time.Time{})
		io.WriteString(ours, http2.ClientPreface)
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
		r.fr.WriteWindowUpdate(0, 1<<20)
		r.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/large")
		r.fr.WriteWindowUpdate(1, 1<<20)
		said := listenTo(r)
		time.Sleep(5 * time.Second) // so that there is much in front of the next one
		start := time.Now()
		r.get(3)
		var first time.Duration
		for event := range said {
			if strings.HasPrefix(event, "DATA 3") && first == 0 {
				first = time.Since(start)
				time.Sleep(20 * time.Second)
				r.fr.WriteWindowUpdate(3, window)
			}
			if strings.HasPrefix(event, "DATA 3") && strings.HasSuffix(event, "end") {
				break
			}
			if !strings.HasPrefix(event, "DATA") && !strings.HasPrefix(event, "HEADERS") {
				t.Errorf("said %s", event)
				break
			}
		}
		if first < 45*time.Second {
			t.Errorf("the first bytes came after %v: nothing was in front of them", first)
		}
		ours.Close()
	})
}

// TestWindowInDrops opens the window of a stream again and again, a little each time. That
// is not to keep it shut.
func TestWindowInDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, drop = 100, 10
		r, said := piped(t, serai.Config{}, wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return &wire.Response{Status: 200, ContentLength: size, Body: wire.NewBytes(make([]byte, size))}, nil
		}), nil)
		io.WriteString(r.conn, http2.ClientPreface)
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: drop})
		r.get(1)
		for event := range said {
			if strings.HasPrefix(event, "DATA 1") && strings.HasSuffix(event, "end") {
				break
			}
			if strings.HasPrefix(event, "DATA 1") {
				time.Sleep(20 * time.Second)
				r.fr.WriteWindowUpdate(1, drop)
			} else if !strings.HasPrefix(event, "HEADERS") {
				t.Errorf("said %s", event)
				break
			}
		}
		r.conn.Close()
	})
}

// slowConn gives 5,000 bytes a second.
type slowConn struct{ net.Conn }

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 5000)])
	time.Sleep(time.Duration(n) * time.Second / 5000)
	return n, err
}

// TestDrain ends connections in the three steps of a drain.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drain wire.Drain
		release := make(chan bool)
		r, said := piped(t, serai.Config{}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			<-release
			return echo(x, req)
		}), &drain)
		r.hello()
		r.get(1)
		synctest.Wait()
		drain.Begin()
		after(t, said, 0, "GOAWAY NO_ERROR")
		r.get(3) // on its way when we said it
		synctest.Wait()
		drain.CloseIdle()
		after(t, said, 0, "GOAWAY NO_ERROR")
		r.get(5) // too late: nobody looks at it
		synctest.Wait()
		close(release)
		var rest []string
		for event := range said {
			rest = append(rest, event)
		}
		all := strings.Join(rest, "|")
		if strings.Count(all, `"GET a/" end`) != 2 || !strings.HasSuffix(all, "EOF") {
			t.Errorf("got %q", rest)
		}
		if err := drain.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDrainIdle closes an idle connection whose client does not answer.
func TestDrainIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drain wire.Drain
		ours, theirs := net.Pipe()
		s := serai.NewServer(serai.Config{}, func() wire.Service { return wire.ServiceFunc(echo) }, slog.New(slog.DiscardHandler))
		go s.Serve(theirs, &wire.Peer{}, &drain)
		go io.Copy(io.Discard, ours)
		r := newRaw(t, ours)
		ours.SetDeadline(time.Time{})
		r.hello()
		synctest.Wait()
		start := time.Now()
		drain.CloseIdle()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := drain.Wait(ctx); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v, after %v", err, time.Since(start))
		}
	})
}

// TestUpstreamTimeouts asks an upstream that does not answer.
func TestUpstreamTimeouts(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(x *wire.Exchange, req *wire.Request)
		cfg  serai.ClientConfig
		took time.Duration
		want string
	}{
		{"deadline", func(x *wire.Exchange, _ *wire.Request) {
			x.Deadline, x.Timeout = time.Now().Add(3*time.Second), 3*time.Second
		}, serai.ClientConfig{}, 3 * time.Second, "504 UT repeat 1"},
		{"head", nil, serai.ClientConfig{HeaderTimeout: 7 * time.Second}, 7 * time.Second, "504 UT repeat 1"},
		{"deadline counts from the end of the body", func(x *wire.Exchange, req *wire.Request) {
			x.Deadline, x.Timeout = time.Now().Add(3*time.Second), 3*time.Second
			req.Body, req.ContentLength = &slow{left: 5}, -1
		}, serai.ClientConfig{}, 8 * time.Second, "504 UT repeat 1"},
		{"head counts from the end of the body", func(_ *wire.Exchange, req *wire.Request) {
			req.Body, req.ContentLength = &slow{left: 5}, -1
		}, serai.ClientConfig{HeaderTimeout: 3 * time.Second}, 8 * time.Second, "504 UT repeat 1"},
		{"gone without a word", nil, serai.ClientConfig{}, DefaultSilence, "503 UC repeat 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				go io.Copy(io.Discard, theirs)
				c := serai.NewClientConn(ours, test.cfg)
				go c.Run()
				newRaw(t, theirs).fr.WriteSettings()
				theirs.SetDeadline(time.Time{})
				start := time.Now()
				if got := get(c, "POST", test.edit); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("it took %v, not %v", took, test.took)
				}
				c.Close()
				theirs.Close()
			})
		})
	}
}

// DefaultSilence is how long an upstream may be silent while it is asked.
const DefaultSilence = serai.DefaultClientPingInterval + serai.DefaultPingTimeout

// slow is a body that gives a byte a second.
type slow struct{ left int }

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	s.left--
	p[0] = 'x'
	return 1, nil
}

func (s *slow) Trailer() *wire.Header { return nil }
func (s *slow) Close() error          { return nil }

// TestContinue holds a body back until the upstream wants it, or a second is over.
func TestContinue(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			c := serai.NewClientConn(ours, serai.ClientConfig{})
			go c.Run()
			r := newRaw(t, theirs)
			theirs.SetDeadline(time.Time{})
			go func() {
				io.ReadFull(theirs, make([]byte, len(http2.ClientPreface)))
				r.fr.WriteSettings()
				r.until("HEADERS 1")
				start := time.Now()
				if wanted {
					time.Sleep(300 * time.Millisecond)
					r.headers(1, false, ":status", "100")
				}
				r.until("DATA 1")
				if took, want := time.Since(start), map[bool]time.Duration{true: 300 * time.Millisecond, false: time.Second}[wanted]; took != want {
					t.Errorf("the body came after %v, not %v", took, want)
				}
				r.headers(1, true, ":status", "204")
				io.Copy(io.Discard, theirs)
			}()
			got := get(c, "POST", func(_ *wire.Exchange, req *wire.Request) {
				req.Body, req.ContentLength, req.ExpectContinue = wire.NewBytes([]byte("hello")), 5, true
			})
			if got != "204" {
				t.Error(got)
			}
			c.Close()
			theirs.Close()
		})
	}
}
