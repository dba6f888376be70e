package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// forwardUDPSize is the most bytes that we take by UDP.
	forwardUDPSize = 1232
	// badFor is how long a resolver that did not answer is asked last.
	badFor = 10 * time.Second
	// forgeries is how many packets that are no answer to our query are read
	// before we take it for an attack.
	forgeries = 32
)

// resolver is a server that knows the rest of the world.
type resolver struct {
	address  netip.AddrPort
	badUntil atomic.Int64 // Unix nanoseconds
}

func (r *resolver) failed()   { r.badUntil.Store(time.Now().Add(badFor).UnixNano()) }
func (r *resolver) answered() { r.badUntil.Store(0) }

// exchange sends a query and returns the answer to it. The system chooses a
// port at random for each, and only packets of the resolver are read there.
// ctx must have a deadline.
func (r *resolver) exchange(ctx context.Context, network string, query *dns.Msg) (*dns.Msg, error) {
	m, err := r.converse(ctx, network, query)
	if err != nil {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			err = ctx.Err()
		case isTimeout(err):
			err = context.DeadlineExceeded
		}
		return nil, fmt.Errorf("ask %s by %s: %w", r.address, network, err)
	}
	return m, nil
}

func isTimeout(err error) bool {
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

func (r *resolver) converse(ctx context.Context, network string, query *dns.Msg) (*dns.Msg, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, r.address.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	until, _ := ctx.Deadline()
	if err := conn.SetDeadline(until); err != nil {
		return nil, err
	}
	// ctx may also end before its deadline
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // closed already is as good
	sent := query.Copy()
	sent.Id = dns.Id()
	packed, err := sent.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		return overTCP(conn, sent, packed)
	}
	return overUDP(conn, sent, packed)
}

// overUDP waits for the answer, and passes over packets that are none.
func overUDP(conn net.Conn, sent *dns.Msg, packed []byte) (*dns.Msg, error) {
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	buffer := make([]byte, maxQuery)
	for range forgeries {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		if m, err := answerTo(sent, buffer[:n]); err == nil {
			return m, nil
		}
	}
	return nil, errors.New("packets came that are no answer to the query")
}

func overTCP(conn net.Conn, sent *dns.Msg, packed []byte) (*dns.Msg, error) {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packed)), uint16(len(packed)))
	if _, err := conn.Write(append(framed, packed...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buffer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buffer); err != nil {
		return nil, err
	}
	return answerTo(sent, buffer)
}

// errNoAnswer: a message that is no answer to our query.
var errNoAnswer = errors.New("the answer is to another query")

// answerTo reads a message that must answer sent: one of the same ID and
// question (RFC 5452 section 9.1). A resolver may leave the question out of an
// error.
func answerTo(sent *dns.Msg, packet []byte) (*dns.Msg, error) {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet) != sent.Id || packet[2]&0x80 == 0 {
		return nil, errNoAnswer
	}
	m := &dns.Msg{}
	if err := m.Unpack(packet); err != nil {
		return nil, err
	}
	if len(m.Question) == 0 && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeServerFailure) {
		return m, nil
	}
	if len(m.Question) != 1 || m.Opcode != dns.OpcodeQuery {
		return nil, errNoAnswer
	}
	got, want := m.Question[0], sent.Question[0]
	if got.Qtype != want.Qtype || got.Qclass != want.Qclass || !strings.EqualFold(got.Name, want.Name) {
		return nil, errNoAnswer
	}
	return m, nil
}
