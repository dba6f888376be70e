package bulk_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/serai-net/serai/connect/wire/bulk"
)

// dribble writes in pieces of a few bytes.
type dribble struct {
	net.Conn
	size int
}

func (d dribble) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += d.size {
		if _, err := d.Conn.Write(p[n:min(len(p), n+d.size)]); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// Records may arrive in any pieces.
func TestRecordsInPieces(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3, 4, 7, 1000} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			server, client := configs(t, version)
			buffers := &bulk.Buffers{}
			ours, theirs := pair(t, "tcp")
			conn, far := tls.Server(bulk.Under(ours, buffers), server), tls.Client(dribble{theirs, size}, client)
			dst, out := pair(t, "unix")
			sent := random(50000)
			var all sync.WaitGroup
			all.Go(func() {
				if _, err := far.Write(sent); err != nil {
					t.Error(err)
				}
				far.Close()
			})
			all.Go(func() {
				defer dst.Close()
				if err := conn.Handshake(); err != nil {
					t.Error(err)
				}
				if err := move(dst, bulk.NewPipe(dst, conn, buffers)); err != nil {
					t.Error(err)
				}
			})
			if got, err := io.ReadAll(out); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("pieces of %d: %d bytes, %v", size, len(got), err)
			}
			all.Wait()
		}
	}
}

// feed is a connection from which some bytes come, in pieces.
type feed struct {
	net.Conn
	b     []byte
	piece int
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.b[:min(len(f.b), f.piece)])
	f.b = f.b[n:]
	return n, nil
}

// Whatever comes from the socket, TLS gets the same, and nothing over the end of
// a record.
func FuzzConn(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 2, 'h', 'i', 23, 3, 3, 0, 0, 21, 3, 3, 0, 1}, 3, 100)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 1, 1)
	f.Add([]byte{23, 3, 3, 255, 255}, 100, 4)
	f.Add(bytes.Repeat([]byte{23, 3, 3, 64, 0}, 10000), 1<<20, 600)
	f.Fuzz(func(t *testing.T, b []byte, piece, ask int) {
		if piece < 1 || ask < 1 || ask > 1<<20 {
			return
		}
		conn := bulk.Under(&feed{b: b, piece: piece}, &bulk.Buffers{})
		p := make([]byte, ask)
		var got []byte
		for record := 0; ; {
			n, err := conn.Read(p)
			if record == 0 && len(b)-len(got) >= 5 {
				record = 5 + int(b[len(got)+3])<<8 + int(b[len(got)+4])
			}
			if got = append(got, p[:n]...); err != nil {
				break
			}
			if n == 0 {
				t.Fatal("neither bytes nor an error")
			}
			if len(b)-len(got)+n >= 5 && n > record && record > 0 {
				t.Fatalf("%d bytes at once, %d to the end of the record", n, record)
			}
			record = max(0, record-n)
		}
		if !bytes.Equal(got, b) {
			t.Fatalf("%d bytes in, %d out", len(b), len(got))
		}
	})
}
