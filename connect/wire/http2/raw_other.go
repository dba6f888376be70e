//go:build !unix

package http2

import "net"

type rawReader struct{}

func newRawReader(net.Conn, *link) *rawReader { return nil }

func (*rawReader) receive() (int, error) { return 0, nil }
