package lua

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxScript is the largest script, in bytes.
	maxScript = 1 << 20
	// maxIdle are the VMs kept for the next runs.
	maxIdle = 64
	// maxRuns are the scripts under way: one that waits for a client or a call holds
	// a VM of its own, of more than 100 KiB, and what it has of a body.
	maxRuns = 512
	// maxAsync are the calls under way that no script waits for.
	maxAsync = 100
	// maxBody is how much of a body a script may have at once, in bytes, as with
	// Envoy's default buffer limit.
	maxBody = 1 << 20
	// Budget is how long a script may run for one request or response, waiting not
	// counted.
	Budget = time.Second
)

// Place is where a filter stands.
type Place struct {
	// Find finds clusters for httpCall.
	Find call.Find
	// Stats is where errors and executions are counted.
	Stats *stats.Scope
	Log   *slog.Logger
	// Budget in place of the constant, if not 0.
	Budget time.Duration
	// MaxRuns is how many scripts may be under way at a time, 0 means 512. An exchange
	// beyond is answered 503: it must not pass without its script.
	MaxRuns int
}

// Filter is a compiled script with its VMs. It is safe for concurrent use.
type Filter struct {
	place                 Place
	proto                 *lua.FunctionProto
	onRequest, onResponse bool
	failed, runs          *stats.Counter
	growth                uint64 // how much the heap may grow meanwhile
	// streams says that the script has to do with chunks of bodies.
	streams bool
	async   chan struct{}

	refused *stats.Counter
	// told is when an error was last logged, in nanoseconds of Unix time.
	told atomic.Int64

	mu sync.Mutex // guards:
	// idle are VMs nobody uses, the one used last at the end; used counts the others.
	idle []*vm
	used int
}

// New compiles a script, and runs it once so that an error shows.
func New(c *mesh.Lua, place Place) (*Filter, error) {
	code := c.Code
	if c.File != "" {
		var err error
		if code, err = read(c.File); err != nil {
			return nil, fmt.Errorf("lua: %w", err)
		}
	}
	if len(code) > maxScript {
		return nil, fmt.Errorf("lua: a script of more than %d bytes", maxScript)
	}
	proto, err := compile(code, "script")
	if err != nil {
		return nil, fmt.Errorf("lua: %w", err)
	}
	place.Budget, place.MaxRuns = cmp.Or(place.Budget, Budget), cmp.Or(place.MaxRuns, maxRuns)
	f := &Filter{
		growth: growth(), place: place, proto: proto, streams: strings.Contains(code, "bodyChunks"), async: make(chan struct{}, maxAsync),
		failed: place.Stats.Counter("errors"), runs: place.Stats.Counter("executions"),
		refused: place.Stats.Counter("overflow"),
	}
	vm, err := f.take()
	if err != nil {
		return nil, fmt.Errorf("lua: %w", err)
	}
	f.onRequest, f.onResponse = vm.onRequest != nil, vm.onResponse != nil
	f.give(vm)
	return f, nil
}

func read(path string) (string, error) {
	// Before it is opened: that of a pipe would wait for who writes to it.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("read the script: %s is no regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the script: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxScript+1))
	if err != nil {
		return "", fmt.Errorf("read the script: %w", err)
	}
	return string(data), nil
}

// Layer is the filter in a chain. pin, if not nil, chooses the route of a request
// before the script changes it; else it is chosen anew after a change, whoever has chosen
// before.
func (f *Filter) Layer(pin func(x *wire.Exchange, req *wire.Request) (routed bool)) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if f.onRequest {
				if pin != nil {
					pin(x, req)
				}
				resp, err := f.request(x, req, pin != nil)
				switch {
				case resp != nil && f.onResponse: // which sees its own answers too
					return f.Encode(x, req, resp)
				case resp != nil || err != nil:
					return resp, err
				}
			}
			resp, err := next.Serve(x, req)
			if !f.onResponse || x.Gone() {
				return resp, err
			}
			if err != nil {
				resp = wire.Reply(x, err) // a script sees what others answer, too
			}
			return f.Encode(x, req, resp)
		})
	}
}

// Encodes tells whether the script has to do with responses.
func (f *Filter) Encodes() bool { return f.onResponse }

// request runs envoy_on_request. It returns a response if the script answers itself.
// keep says that the route stays that of the head as it came.
func (f *Filter) request(x *wire.Exchange, req *wire.Request, keep bool) (*wire.Response, error) {
	r, err := f.begin(x, req, nil)
	if err != nil {
		return nil, err
	}
	r.keep = keep
	r.do(r.vm.onRequest)
	switch {
	case r.answer != nil:
		return r.answer, nil
	case r.fault != nil:
		return nil, r.fault
	}
	return nil, nil //nolint:nilnil // the request goes on
}

// Encode runs envoy_on_response.
func (f *Filter) Encode(x *wire.Exchange, req *wire.Request, resp *wire.Response) (*wire.Response, error) {
	r, err := f.begin(x, req, resp)
	if err != nil {
		if resp.Body != nil {
			resp.Body.Close()
		}
		return nil, err
	}
	r.do(r.vm.onResponse)
	if r.fault != nil {
		if resp.Body != nil {
			resp.Body.Close()
		}
		return nil, r.fault
	}
	return resp, nil
}

// tellEvery is how often errors of a script are told: clients may cause one with each
// request. All are counted.
const tellEvery = time.Second

// maxTold is how much is logged of an error, in bytes: there may be a body in it.
const maxTold = 4 << 10

// lament counts and logs an error of a script.
func (f *Filter) lament(err error) {
	f.failed.Add(1)
	now, last := time.Now().UnixNano(), f.told.Load()
	if now-last < int64(tellEvery) || !f.told.CompareAndSwap(last, now) {
		return
	}
	text := err.Error()
	if errors.Is(err, errTooLong) {
		text = errTooLong.Error()
	} else if e, ok := errors.AsType[*lua.ApiError](err); ok {
		text = e.Object.String() // without the stack, which tells nothing of a script
	}
	if len(text) > maxTold {
		text = text[:maxTold] + "..."
	}
	f.place.Log.Error("script error", "err", text)
}

// errBusy is the cause of the fault that take returns when too many scripts run.
var errBusy = errors.New("too many scripts are under way")

// take takes a VM of the pool, the one that was used last, or makes one. Each one
// taken is given back.
func (f *Filter) take() (*vm, error) {
	f.mu.Lock()
	if f.used >= f.place.MaxRuns {
		f.mu.Unlock()
		f.refused.Add(1)
		return nil, &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamOverflow, Text: "overloaded", Err: errBusy}
	}
	f.used++
	if n := len(f.idle); n > 0 {
		vm := f.idle[n-1]
		f.idle[n-1] = nil
		f.idle = f.idle[:n-1]
		f.mu.Unlock()
		return vm, nil
	}
	f.mu.Unlock()
	vm, err := f.newVM()
	if err != nil {
		f.mu.Lock()
		f.used--
		f.mu.Unlock()
	}
	return vm, err
}

// give gives a VM back.
func (f *Filter) give(vm *vm) {
	vm.sweep()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used--
	if len(f.idle) < maxIdle {
		f.idle = append(f.idle, vm)
	}
}
