package extension_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/extension"
	"github.com/serai-net/serai/plugins"
)

// local is a plugin without a process: what it answers is said by functions, of
// which nil ones change nothing.
type local struct {
	identity func(r *plugins.Request) (*plugins.Identity, error)
	request  func(r *plugins.Request) (*plugins.RequestChange, error)
	response func(r *plugins.Request, resp *plugins.Response) (*plugins.ResponseChange, error)
}

func (l *local) Authenticate(_ context.Context, r *plugins.Request) (*plugins.Identity, error) {
	return l.identity(r)
}

func (l *local) TransformRequest(_ context.Context, r *plugins.Request) (*plugins.RequestChange, error) {
	if l.request == nil {
		return nil, nil //nolint:nilnil // no change
	}
	return l.request(r)
}

func (l *local) TransformResponse(_ context.Context, r *plugins.Request, resp *plugins.Response) (*plugins.ResponseChange, error) {
	if l.response == nil {
		return nil, nil //nolint:nilnil // no change
	}
	return l.response(r, resp)
}

var errDown = errors.New("plugin is down")

// world is one use, with what it logs.
type world struct {
	use extension.Use
	log bytes.Buffer
}

func newWorld(open bool, maxBody int) *world {
	w := &world{}
	w.use = extension.Use{
		Plugin: "p", Open: open, MaxBody: maxBody, Normalize: normalize,
		Counters: &extension.Counters{}, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	}
	return w
}

// normalize is a small one; the edge has the real one, above.
func normalize(target string) (string, error) {
	if strings.Contains(target, "%2f") {
		return "", errors.New("path has an encoded slash")
	}
	only, query, _ := strings.Cut(target, "?")
	return path.Clean(only) + "?" + query, nil
}

func exchange() *wire.Exchange {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:4711")}, time.Now())
	x.ID, x.API, x.Route = "id", "shop", "cart"
	return x
}

func request(body wire.Body, length int64, fields ...string) *wire.Request {
	req := &wire.Request{Method: "POST", Scheme: "https", Authority: "a.example", Path: "/x?y", Body: body, ContentLength: length}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return req
}

// upstream notes what it got, and answers.
type upstream struct {
	asked bool
	path  string
	body  string
	// trailer is nil if the body had none.
	trailer *wire.Header
	answer  *wire.Response
}

func (u *upstream) Serve(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	u.asked, u.path = true, req.Path
	if req.Body != nil {
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		u.body, u.trailer = string(data), req.Body.Trailer()
	}
	if u.answer == nil {
		u.answer = wire.Text(200, "ok")
	}
	return u.answer, nil
}

// lines are a header's fields as "name: value".
func lines(h *wire.Header) string {
	var all []string
	for name, value := range h.All() {
		all = append(all, name+": "+value)
	}
	return strings.Join(all, ", ")
}

// wantFault checks the answer of a layer that does not let an exchange through.
func wantFault(t *testing.T, err error, status int, flag wire.Flag, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	fault := wire.AsFault(err)
	if fault.Status != status || fault.Flag != flag || fault.Text != text {
		t.Errorf("%d %s %q, want %d %s %q", fault.Status, fault.Flag, fault.Text, status, flag, text)
	}
}
