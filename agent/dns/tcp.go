package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// pipelined is how many queries of one connection are at work at one time
	// (RFC 7766 section 6.2.1.1); what is more waits in its socket.
	pipelined = 16
	// queryTime is how long a query may take to come, once it has begun, and a
	// response to be taken.
	queryTime = 2 * time.Second
)

// accept serves TCP connections until the listener is closed.
func (l *listener) accept() {
	for {
		conn, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no file descriptors left, or the like: it heals
			l.server.log.Error("accept", "listener", l.spec.Load().Name, "err", err)
			select {
			case <-time.After(pause):
			case <-l.work.Done():
			}
		case l.connections.Add(1) > l.server.bounds.connections.Load():
			l.connections.Add(-1)
			l.server.dropped.connections.Add(1)
			conn.Close()
		default:
			l.hold(conn)
			l.working.Go(func() {
				l.serve(conn)
				l.forget(conn)
				l.connections.Add(-1)
			})
		}
	}
}

// serve answers the queries of one connection, in the order in which answers
// are there.
func (l *listener) serve(conn net.Conn) {
	c := &stream{listener: l, conn: conn, source: addressOf(conn.RemoteAddr())}
	places := make(chan struct{}, pipelined)
	for more := true; more; {
		var query []byte
		if query, more = c.read(); query == nil {
			break
		}
		if !l.server.enter() {
			break
		}
		places <- struct{}{} // freed by answers, which end with work
		c.working.Go(func() {
			defer l.server.leave()
			c.answer(query)
			<-places
		})
	}
	c.working.Wait()
	conn.Close()
}

// stream is one TCP connection.
type stream struct {
	listener *listener
	conn     net.Conn
	source   netip.Addr
	working  sync.WaitGroup // queries
	writing  sync.Mutex     // held while a response is written
}

// read returns the next query, nil if there is none. There are no more after
// one that is longer than a query can be: of that only the header is read, for
// the answer that says so.
func (c *stream) read() (query []byte, more bool) {
	if c.listener.idle(c.conn) != nil {
		return nil, false
	}
	var length [2]byte
	if _, err := io.ReadFull(c.conn, length[:1]); err != nil {
		return nil, false
	}
	if c.conn.SetReadDeadline(time.Now().Add(queryTime)) != nil {
		return nil, false
	}
	if _, err := io.ReadFull(c.conn, length[1:]); err != nil {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	more = n <= maxQuery
	if !more {
		n = headerSize
	}
	query = make([]byte, n)
	if _, err := io.ReadFull(c.conn, query); err != nil {
		return nil, false
	}
	return query, more
}

// answer answers a query; what is no query closes the connection.
func (c *stream) answer(query []byte) {
	server := c.listener.server
	server.tcp.Add(1)
	from := client{source: c.source, workload: c.listener.spec.Load().Workload}
	response := server.handler.Load().handle(c.listener.work, query, from, nil)
	if response == nil {
		c.conn.Close()
		return
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(response)), uint16(len(response)))
	framed = append(framed, response...)
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.conn.SetWriteDeadline(time.Now().Add(queryTime))
	if err == nil {
		_, err = c.conn.Write(framed)
	}
	if err != nil { // half a response may be out
		c.conn.Close()
	}
}
