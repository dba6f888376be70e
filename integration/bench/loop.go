//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// loop waits for many sockets on one thread. It is not for several goroutines.
//
// Load and backend share a core, and must cost less there than the cheapest proxy on the other: with the net package,
// whose every read begins with a try in vain, they would not.
type loop struct {
	fd     int
	timer  int // a timerfd
	events []unix.EpollEvent
}

// newLoop makes one; the process's end closes it.
func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make timer: %w", err)
	}
	l := &loop{fd: fd, timer: timer, events: make([]unix.EpollEvent, 512)}
	return l, l.add(timer)
}

// add watches a socket for input.
func (l *loop) add(fd int) error {
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// output says whether a socket is also watched for room to write.
func (l *loop) output(fd int, on bool) error {
	event := &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if on {
		event.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_MOD, fd, event); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// wait returns what has happened. The timer's event has l.timer as its socket.
func (l *loop) wait() ([]unix.EpollEvent, error) {
	for {
		n, err := unix.EpollWait(l.fd, l.events, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("wait for sockets: %w", err)
		default:
			return l.events[:n], nil
		}
	}
}

// wakeAt sets the timer to a time of now().
func (l *loop) wakeAt(at time.Duration) error {
	spec := &unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at.Nanoseconds()))}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, spec, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	return nil
}

// now is the time on the clock that timers use.
func now() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0 // this clock is always there
	}
	return time.Duration(t.Nano())
}

// dial connects a socket, which is then non-blocking and sends at once what is written.
func dial(addr string) (int, error) {
	to, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("dial %s: %w", addr, err)
	}
	if err := errors.Join(unix.Connect(fd, to), unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("dial %s: %w", addr, err)
	}
	return fd, nil
}

// listen makes a listening socket.
func listen(addr string) (int, error) {
	at, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, at), unix.Listen(fd, 4096)); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return fd, nil
}

func sockaddr(addr string) (unix.Sockaddr, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, nil
}

// again says that a call would have had to wait.
func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }
