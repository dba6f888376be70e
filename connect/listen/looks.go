package listen

import (
	"net"
	"sync"

	"github.com/serai-net/serai/connect/wire/socket"
)

// firstLook is how many bytes of a connection there is room for at first: a
// ClientHello with the keys of our days has some 1,800.
const firstLook = 4 << 10

// looks lends memory to who looks at the beginning of connections.
type looks struct{ pool sync.Pool }

func (l *looks) look(conn net.Conn, most int, see func(b []byte) (content bool)) (net.Conn, error) {
	mem, ok := l.pool.Get().(*[firstLook]byte)
	if !ok {
		mem = new([firstLook]byte)
	}
	defer l.pool.Put(mem)
	return socket.Look(conn, mem[:], most, see)
}
