package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Ports are taken from below the range from which systems choose the local port of an outgoing connection (32768 and
// up on Linux, 49152 and up elsewhere), in blocks. A block belongs to the Env that holds the lock of its file; the
// kernel lets go of the lock when the process dies. To bind port 0 and to close it again would promise nothing: another
// test, or any outgoing connection, may get the same port before the agent binds it, or while it restarts.
const (
	firstPort  = 22000
	portBlock  = 50
	portBlocks = 200
)

type ports struct {
	// set by newPorts
	dir string

	// mu guards:
	mu        sync.Mutex
	locks     []*os.File
	next, end int // what is left of the current block
}

func newPorts() *ports {
	return &ports{dir: filepath.Join(os.TempDir(), "serai-ports-"+strconv.Itoa(os.Getuid()))}
}

// take gives the first of n ports in a row which nobody listens on.
func (p *ports) take(n int) (int, error) {
	if n < 1 || n > portBlock {
		return 0, fmt.Errorf("take %d ports: a block has %d", n, portBlock)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.next+n <= p.end {
			first := p.next
			free := freeFrom(first, n)
			if free == n {
				p.next = first + n
				return first, nil
			}
			p.next = first + free + 1 // past the one that is taken
		}
		if err := p.blockLocked(); err != nil {
			return 0, err
		}
	}
}

// blockLocked takes the next block that nobody holds.
func (p *ports) blockLocked() error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("take ports: %w", err)
	}
	start := os.Getpid() // so that processes which start together do not all try the same
	for i := range portBlocks {
		block := (start + i) % portBlocks
		lock, err := os.OpenFile(filepath.Join(p.dir, strconv.Itoa(block)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("take ports: %w", err)
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			_ = lock.Close()
			continue
		}
		p.locks = append(p.locks, lock)
		p.next = firstPort + block*portBlock
		p.end = p.next + portBlock
		return nil
	}
	return fmt.Errorf("take ports: all %d blocks from %d on are held, see the locks in %s", portBlocks, firstPort, p.dir)
}

func (p *ports) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, lock := range p.locks {
		errs = append(errs, lock.Close())
	}
	p.locks, p.next, p.end = nil, 0, 0
	return errors.Join(errs...)
}

// freeFrom counts the ports from first on, up to n, on which nobody listens.
func freeFrom(first, n int) int {
	for i := range n {
		if !free(first + i) {
			return i
		}
	}
	return n
}

func free(port int) bool {
	var config net.ListenConfig
	addr := ":" + strconv.Itoa(port)
	tcp, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := config.ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		return false
	}
	defer udp.Close()
	return true
}
