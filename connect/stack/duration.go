package stack

import (
	"net/http"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// maxDuration ends what takes longer, a tunnel too (max_stream_duration). It is no
// deadline of the exchange, since those count from the end of the request.
func maxDuration(d time.Duration) wire.Layer {
	if d <= 0 {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			live(x, d)
			return next.Serve(x, req)
		})
	}
}

// live ends x after d.
func live(x *wire.Exchange, d time.Duration) {
	l := &lifetime{x: x}
	l.timer = time.AfterFunc(d, l.over)
	x.OnEnd(l)
}

// lifetime is what is left of an exchange's time.
type lifetime struct {
	timer *time.Timer
	mu    sync.Mutex     // guards:
	x     *wire.Exchange // nil at the end
}

// deadlineExceeded is DEADLINE_EXCEEDED of gRPC.
const deadlineExceeded = 4

func (l *lifetime) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.x != nil {
		l.x.Abort(&wire.Fault{
			Status: http.StatusGatewayTimeout, Flag: wire.FlagDuration, Text: "downstream duration timeout",
			Details: "max_duration_timeout", GRPCStatus: deadlineExceeded, Err: wire.ErrLasted,
		})
	}
}

// End implements [wire.End].
func (l *lifetime) End(*wire.Exchange) {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.x = nil
}
