//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// The load's protocols.
const (
	loadPlain  = "h1"     // keep-alive connections, one request at a time on each
	loadH2     = "h2"     // streams of h2c or, with TLS, of h2
	loadUnary  = "unary"  // the same, with a gRPC message in each request
	loadStream = "stream" // long gRPC streams, a request is a message and its echo
	loadTLS    = "tls"    // a handshake, one request, and the connection's end
)

// loadConfig says what load to make. It travels as JSON to a process of its own, so that it shares nothing with what
// tells it what to do.
type loadConfig struct {
	Protocol string
	Addr     string   // of the proxy
	Paths    []string // asked one after another
	Body     int      // bytes of each answer's body; of a gRPC message
	Conns    int
	Streams  int           // at once on each connection of HTTP/2
	TLS      bool          // for HTTP/2
	Resume   bool          // sessions, for loadTLS
	Rate     int           // requests per second over all; 0: each answer is followed by a request at once
	Warm     time.Duration // before the measured time
	Time     time.Duration // measured
	PIDs     []int         // of the proxy, whose processor time is taken over just the measured time
	Core     int           // that it runs on
}

// loadResult is what a load has seen in the measured time.
type loadResult struct {
	Requests int           // answered in full, as they should be
	Errors   int           // all others, also while warming up
	First    string        // the first error
	Time     time.Duration // that it took
	CPU      time.Duration // of the proxy
	Self     time.Duration // of the load itself
	Idle     time.Duration // in which the proxy's core had nothing to do
	P50, P99 time.Duration // from the time when a request was due to the end of its answer; 0 without a rate
}

// runLoad makes a load in another process and waits for its end.
func runLoad(ctx context.Context, c *loadConfig) (*loadResult, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("tell the load: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Warm+c.Time+20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, self, "load", string(text))
	command.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
	out, err := command.Output()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("run the load: %w: %s", err, tail(string(ended.Stderr)))
	}
	if err != nil {
		return nil, fmt.Errorf("run the load: %w", err)
	}
	result := &loadResult{}
	if err := json.Unmarshal(out, result); err != nil {
		return nil, fmt.Errorf("read what the load says: %w", err)
	}
	return result, nil
}

// loadMain is the other process.
func loadMain(text string) error {
	var c loadConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return fmt.Errorf("read what load to make: %w", err)
	}
	result, err := makeLoad(&c)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// makeLoad makes a load in this process.
func makeLoad(c *loadConfig) (*loadResult, error) {
	m := &meter{config: c}
	var err error
	switch c.Protocol {
	case loadPlain:
		err = plainLoad(c, m)
	case loadH2, loadUnary, loadStream:
		err = streamLoad(c, m)
	case loadTLS:
		err = handshakeLoad(c, m)
	default:
		return nil, fmt.Errorf("there is no load %q", c.Protocol)
	}
	if err != nil {
		return nil, err
	}
	return m.result(), nil
}

// meter counts over the measured time. It is not for several goroutines at once.
type meter struct {
	config *loadConfig

	state     meterState
	start     time.Duration // of warming up
	begun     time.Duration // of the measured time
	clocks    time.Duration // of the proxy, at begun
	self      time.Duration // of this process, at begun
	idle      time.Duration // of the proxy's core, at begun
	latencies []time.Duration
	done      loadResult
}

type meterState uint8

const (
	meterIdle meterState = iota
	meterWarm
	meterOn
	meterOff
)

// tick moves on with time. It says whether the load is over.
func (m *meter) tick(at time.Duration) bool {
	switch m.state {
	case meterIdle:
		m.start, m.state = at, meterWarm
	case meterWarm:
		if at >= m.start+m.config.Warm {
			m.begun, m.state = at, meterOn
			m.clocks, m.self, m.idle = processorTime(m.config.PIDs), processorTime([]int{os.Getpid()}), idleTime(m.config.Core)
		}
	case meterOn:
		if at >= m.begun+m.config.Time {
			m.state = meterOff
			m.done.Time = at - m.begun
			m.done.CPU = processorTime(m.config.PIDs) - m.clocks
			m.done.Self = processorTime([]int{os.Getpid()}) - m.self
			m.done.Idle = idleTime(m.config.Core) - m.idle
		}
	case meterOff:
	}
	return m.state == meterOff
}

// endTime is how long a load waits for answers under way, which it does not count: a proxy whose clients all hang up
// would be busy with that while the next load begins.
const endTime = time.Second

// next is when tick has to be called again, or was, if the load is over.
func (m *meter) next() time.Duration {
	if m.state == meterWarm {
		return m.start + m.config.Warm
	}
	return m.begun + m.config.Time
}

// answered counts an answer to a request that was due at that time.
func (m *meter) answered(due time.Duration) {
	if m.state != meterOn {
		return
	}
	m.done.Requests++
	if m.config.Rate > 0 && due >= m.begun {
		m.latencies = append(m.latencies, now()-due)
	}
}

// failed counts an error.
func (m *meter) failed(format string, args ...any) {
	if m.state == meterOff {
		return
	}
	if m.done.Errors == 0 {
		m.done.First = fmt.Sprintf(format, args...)
	}
	m.done.Errors++
}

func (m *meter) result() *loadResult {
	slices.Sort(m.latencies)
	if n := len(m.latencies); n > 0 {
		m.done.P50, m.done.P99 = m.latencies[n/2], m.latencies[n*99/100]
	}
	return &m.done
}

// pace says when requests are due, at even distances.
type pace struct {
	every time.Duration
	next  time.Duration
}

func newPace(rate int, from time.Duration) *pace {
	if rate == 0 {
		return nil
	}
	return &pace{every: time.Second / time.Duration(rate), next: from}
}

// due takes the times that have come.
func (p *pace) due(at time.Duration, f func(due time.Duration)) {
	for p.next <= at {
		f(p.next)
		p.next += p.every
	}
}
