package accesslog

import (
	"net/http"
	"sync"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/logfile"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Kinds of log, as %ACCESS_LOG_TYPE% names them.
const (
	Exchanges   = "DownstreamEnd"
	Connections = "TcpConnectionEnd"
	Listener    = "NotSet"
	// before the end
	Requested = "DownstreamStart"
	Tunneled  = "DownstreamTunnelSuccessfullyEstablished"
	Accepted  = "TcpConnectionStart"
	Connected = "TcpUpstreamConnected"
	Periodic  = "TcpPeriodic"
)

// Logs are those of one place. A nil Logs writes nothing. It is safe for concurrent
// use.
type Logs struct {
	all []*logger
}

// logger is one compiled log.
type logger struct {
	filter    Filter // nil for everything
	text      *format.Text
	json      *format.JSON
	known     bool // nothing is written for what is not known
	out       *logfile.Writer
	collector *collector
	sink      *sink // of out or collector
	used      bool  // guarded by Sinks.mu
}

func newLogger(m *mesh.AccessLog) (*logger, error) {
	l := &logger{known: m.OmitEmpty}
	var err error
	if m.Filter != nil {
		if l.filter, err = CompileFilter(m.Filter); err != nil {
			return nil, err
		}
	}
	switch {
	case m.OTLP != nil:
	case m.JSON != nil:
		l.json, err = format.CompileJSON(m.JSON)
	default:
		l.text, err = format.Compile(m.Text)
	}
	return l, err
}

// log writes of in, if it is to be logged.
func (l *logger) log(in *format.Input) {
	if l.filter != nil && !l.filter(in) {
		return
	}
	if l.collector != nil {
		l.collector.add(in)
		return
	}
	line := l.out.Begin()
	switch {
	case l.json != nil && l.known:
		line = append(l.json.AppendKnown(line, in), '\n')
	case l.json != nil:
		line = append(l.json.Append(line, in), '\n')
	default:
		line = l.text.AppendLine(line, in, l.known)
	}
	l.out.Commit(line)
}

// Place logs exchanges, or connections, of one kind at one place.
type Place struct {
	logs        *Logs
	kind, chain string
	inputs      sync.Pool
}

var _ wire.End = (*Place)(nil)

// On has the end of x logged, which is held by what it is written to until then. A nil
// Place does nothing.
func (p *Place) On(x *wire.Exchange) {
	if p == nil {
		return
	}
	for _, l := range p.logs.all {
		l.sink.hold()
	}
	x.OnEnd((*held)(p))
}

// held is a Place that holds what it writes to.
type held Place

// End implements [wire.End].
func (h *held) End(x *wire.Exchange) {
	(*Place)(h).End(x)
	for _, l := range h.logs.all {
		l.sink.release()
	}
}

// At logs those of a kind in a filter chain of that name, which may be "". It is nil
// if there is nothing to write.
func (l *Logs) At(kind, chain string) *Place {
	if l == nil {
		return nil
	}
	return &Place{logs: l, kind: kind, chain: chain}
}

// End implements [wire.End].
func (p *Place) End(x *wire.Exchange) { p.write(x, p.kind, nil) }

// Tell writes of x, which goes on, as of another kind. resp is what it is answered, if
// the codec is still to learn of it. A nil Place writes nothing.
func (p *Place) Tell(x *wire.Exchange, kind string, resp *wire.Response) {
	if p != nil {
		p.write(x, kind, resp)
	}
}

func (p *Place) write(x *wire.Exchange, kind string, resp *wire.Response) {
	in, ok := p.inputs.Get().(*format.Input)
	if !ok {
		in = &format.Input{Chain: p.chain}
	}
	in.Exchange, in.LogType, in.Response = x, kind, resp
	if x.Response != nil && x.Response.Body != nil {
		in.Trailer = x.Response.Body.Trailer()
	}
	in.TraceID = x.TraceID
	for _, l := range p.logs.all {
		l.log(in)
	}
	in.Exchange, in.Response, in.Trailer, in.TraceID = nil, nil, nil, ""
	p.inputs.Put(in)
}

// Layer logs each exchange at its end; and when it has become a tunnel, if tunnels.
func (p *Place) Layer(tunnels bool) wire.Layer {
	if p == nil {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			p.On(x)
			resp, err := next.Serve(x, req)
			if tunnels && err == nil && (resp.Status == http.StatusSwitchingProtocols || req.Method == http.MethodConnect && resp.Status/100 == 2) {
				p.Tell(x, Tunneled, resp)
			}
			return resp, err
		})
	}
}
