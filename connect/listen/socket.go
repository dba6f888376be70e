package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/serai-net/serai/connect/wire/socket"
)

// gate is a bound net.Listener that may be closed more than once.
type gate struct {
	net.Listener
	once sync.Once
}

// Close closes the socket; connections taken from it live on.
func (g *gate) Close() error {
	var err error
	g.once.Do(func() { err = g.Listener.Close() })
	return err
}

func bind(spec *Spec) (*gate, error) {
	address := spec.Address
	if address.Socket != "" && address.Socket[0] != '@' {
		if err := removeStale(address.Socket); err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{KeepAlive: 15 * time.Second}
	if spec.ReusePort {
		config.Control = socket.ReusePort
	}
	bound, err := config.Listen(context.Background(), address.Network(), address.String())
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", address, err)
	}
	if address.Socket != "" && address.Socket[0] != '@' && address.Mode != 0 {
		if err := os.Chmod(address.Socket, fs.FileMode(address.Mode)&fs.ModePerm); err != nil {
			return nil, errors.Join(fmt.Errorf("bind %s: %w", address, err), bound.Close())
		}
	}
	return &gate{Listener: bound}, nil
}

// removeStale removes a socket file on which nobody listens any more. It
// touches nothing that is no socket.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("bind %s: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("bind %s: there is a file in the way that is no socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("bind %s: somebody else listens there", path), conn.Close())
	case !errors.Is(err, syscall.ECONNREFUSED): // we may not ask, or his queue is full
		return fmt.Errorf("bind %s: somebody else may listen there: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bind %s: remove the stale socket: %w", path, err)
	}
	return nil
}
