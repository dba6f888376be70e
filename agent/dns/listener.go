package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// listener is the sockets of one address.
type listener struct {
	// set by bind
	server  *Server
	work    context.Context //nolint:containedctx // of what is at work when the sockets are closed
	udp     *net.UDPConn
	tcp     net.Listener
	address netip.AddrPort

	spec        atomic.Pointer[Listener]
	connections atomic.Int64
	reading     sync.WaitGroup // loops that read the sockets
	working     sync.WaitGroup // queries by UDP, and TCP connections

	mu    sync.Mutex // guards:
	live  map[net.Conn]bool
	until time.Time // when nothing is read any more; zero before drain
}

// freePorts is how many ports that the system has chosen for TCP are tried for
// UDP.
const freePorts = 16

// crowdedIdle is how long a connection may idle while half of the places are
// taken.
const crowdedIdle = time.Second

// readBuffer is what we ask of the kernel for packets that wait to be read.
const readBuffer = 1 << 20

// bind binds UDP and TCP at one address, the same port for both.
func bind(work context.Context, spec *Listener, server *Server) (*listener, error) {
	l := &listener{server: server, work: work, live: map[net.Conn]bool{}}
	l.spec.Store(spec)
	tries := 1
	if spec.Address.Port() == 0 {
		tries = freePorts
	}
	var err error
	for range tries {
		if err = l.bind(spec.Address); err == nil {
			return l, nil
		}
	}
	return nil, err
}

func (l *listener) bind(address netip.AddrPort) error {
	version := "6"
	if address.Addr().Unmap().Is4() { // else Go would take 0.0.0.0 for all of IPv6, too
		version = "4"
	} else if address.Addr().IsUnspecified() {
		version = ""
	}
	var config net.ListenConfig
	tcp, err := config.Listen(l.work, "tcp"+version, address.String())
	if err != nil {
		return fmt.Errorf("bind %s by TCP: %w", address, err)
	}
	bound, ok := tcp.Addr().(*net.TCPAddr)
	if !ok {
		return errors.Join(fmt.Errorf("bind %s by TCP: got %s", address, tcp.Addr()), tcp.Close())
	}
	at := netip.AddrPortFrom(address.Addr(), uint16(bound.Port))
	packets, err := config.ListenPacket(l.work, "udp"+version, at.String())
	if err != nil {
		return errors.Join(fmt.Errorf("bind %s by UDP: %w", at, err), tcp.Close())
	}
	udp, ok := packets.(*net.UDPConn)
	if !ok {
		return errors.Join(fmt.Errorf("bind %s by UDP: got %T", at, packets), tcp.Close(), packets.Close())
	}
	l.tcp, l.udp, l.address = tcp, udp, at
	_ = udp.SetReadBuffer(readBuffer) // the kernel may allow less
	if address.Addr().IsUnspecified() {
		l.tellDestination()
	}
	return nil
}

// tellDestination has the kernel say which of our addresses a packet came to,
// so that the answer goes out from the same. Where a family is not served the
// call fails, which is no matter.
func (l *listener) tellDestination() {
	_ = ipv4.NewPacketConn(l.udp).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	_ = ipv6.NewPacketConn(l.udp).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
}

// start serves until drain.
func (l *listener) start() {
	l.reading.Go(l.readPackets)
	l.reading.Go(l.accept)
}

// close closes sockets that were never served.
func (l *listener) close() {
	l.udp.Close()
	l.tcp.Close()
}

// drain answers what has come, and closes. What takes longer ends with work.
func (l *listener) drain() {
	// A deadline that is past would end a read even if there is something.
	soon := time.Now().Add(lastCall)
	if err := l.udp.SetReadDeadline(soon); err != nil {
		l.udp.Close()
	}
	l.mu.Lock()
	l.until = soon
	for conn := range l.live {
		conn.SetReadDeadline(soon) //nolint:errcheck // closed already is as good
	}
	l.mu.Unlock()
	l.tcp.Close()
	l.reading.Wait()
	l.working.Wait()
	l.udp.Close()
}

// hold keeps a connection for drain. The one that takes the last place of the
// first half of all shortens the time of those that idle.
func (l *listener) hold(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live[conn] = true
	most := l.server.bounds.connections.Load()
	if n := int64(len(l.live)); l.until.IsZero() && 2*n > most && 2*(n-1) <= most {
		soon := time.Now().Add(min(crowdedIdle, time.Duration(l.server.bounds.idle.Load())))
		for other := range l.live {
			other.SetReadDeadline(soon) //nolint:errcheck // closed already is as good
		}
	}
}

func (l *listener) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, conn)
}

// idle gives a connection time for its next query: when we stop, only for what
// is already on its way.
func (l *listener) idle(conn net.Conn) error {
	timeout := time.Duration(l.server.bounds.idle.Load())
	if 2*l.connections.Load() > l.server.bounds.connections.Load() {
		timeout = min(timeout, crowdedIdle)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.until
	if until.IsZero() {
		until = time.Now().Add(timeout)
	}
	return conn.SetReadDeadline(until)
}

// enter counts a query in; false if there are too many at work.
func (s *Server) enter() bool {
	if s.active.Add(1) > s.bounds.queries.Load() {
		s.active.Add(-1)
		s.dropped.queries.Add(1)
		return false
	}
	return true
}

func (s *Server) leave() { s.active.Add(-1) }
