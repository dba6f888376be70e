//go:build !unix

package bulk

import "net"

type rawReader struct{}

func newRawReader(net.Conn, *reader) *rawReader { return nil }

func (*rawReader) fill() error { return nil }
