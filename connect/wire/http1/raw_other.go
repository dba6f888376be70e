//go:build !unix

package http1

import "net"

type rawReader struct{}

func newRawReader(net.Conn, *source) *rawReader { return nil }

func (*rawReader) receive() (int, error) { return 0, nil }

type peeker struct{}

func newPeeker(net.Conn) *peeker { return nil }

func (*peeker) look() (more, open bool) { return false, true }
