package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// callers are the actors who call by gRPC; those of one way share a connection.
func (s *soak) callers(t *testing.T) []actor {
	t.Helper()
	var all []actor
	for name, addr := range map[string]string{"gRPC by the edge": s.gate.addr, "gRPC by sidecars": local(s.web.upstreams["echo"])} {
		conn := dialGRPC(t, addr)
		var playing sync.WaitGroup // the last one closes it
		for range 3 {
			playing.Add(1)
			all = append(all, actor{
				name: name,
				act:  func(ctx context.Context, random *rand.Rand) (string, error) { return converse(ctx, random, conn) },
				end: func() {
					playing.Done()
					playing.Wait()
					drop(conn)
				},
			})
		}
	}
	return all
}

// converse makes a call, at random of one kind or another.
func converse(ctx context.Context, random *rand.Rand, conn *grpc.ClientConn) (string, error) {
	say := strings.Repeat("x", random.IntN(1<<uint(random.IntN(19)))) //nolint:gosec // small
	switch random.IntN(6) {
	case 0:
		got, err := callGRPC(ctx, conn, grpcSay, say)
		if err == nil && got != "echo-1 "+say {
			err = fmt.Errorf("%w: %d bytes, %d", errMirror, len(say), len(got))
		}
		return "unary", err
	case 1:
		if _, err := callGRPC(ctx, conn, grpcFail, say); status.Code(err) != codes.FailedPrecondition {
			return "an error", fmt.Errorf("%w: %w", errMirror, orNotYet(err))
		}
		return "an error", nil
	case 2:
		return "both ways", converseTalk(ctx, random, conn, say, false)
	case 3:
		return "both ways, left in the middle", converseTalk(ctx, random, conn, say, true)
	case 4:
		return "a slow reader", converseTell(ctx, conn, say)
	default:
		return "cancelled", converseHang(ctx, conn)
	}
}

func orNotYet(err error) error {
	if err != nil {
		return err
	}
	return errNotYet
}

// converseTalk sends messages and wants each of them back.
func converseTalk(ctx context.Context, random *rand.Rand, conn *grpc.ClientConn, say string, leave bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, grpcTalk)
	if err != nil {
		return err
	}
	for range random.IntN(20) {
		if err := s.SendMsg(wrapperspb.String(say)); err != nil {
			return errors.Join(err, s.RecvMsg(&text{}))
		}
		m := &text{}
		if err := s.RecvMsg(m); err != nil {
			return err
		}
		if m.GetValue() != say {
			return fmt.Errorf("%w: %d bytes, %d", errMirror, len(say), len(m.GetValue()))
		}
	}
	if leave {
		return nil
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(&text{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %w", orNotYet(err))
	}
	return nil
}

// converseTell reads ten messages with pauses.
func converseTell(ctx context.Context, conn *grpc.ClientConn, say string) error {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, grpcTell)
	if err != nil {
		return err
	}
	if err := errors.Join(s.SendMsg(wrapperspb.String(say)), s.CloseSend()); err != nil {
		return err
	}
	for n := 0; ; n++ {
		time.Sleep(2 * time.Millisecond)
		m := &text{}
		switch err := s.RecvMsg(m); {
		case errors.Is(err, io.EOF) && n == 10:
			return nil
		case err != nil:
			return fmt.Errorf("after %d messages: %w", n, err)
		case m.GetValue() != say:
			return fmt.Errorf("%w: %d bytes, %d", errMirror, len(say), len(m.GetValue()))
		}
	}
}

// converseHang leaves a call that would not end.
func converseHang(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, grpcHang)
	if err != nil {
		return err
	}
	if err := errors.Join(s.SendMsg(wrapperspb.String("")), s.CloseSend()); err != nil {
		return err
	}
	if err := s.RecvMsg(&text{}); err != nil {
		return err
	}
	cancel()
	if err := s.RecvMsg(&text{}); status.Code(err) != codes.Canceled {
		return fmt.Errorf("%w: %w", errAnswered, orNotYet(err))
	}
	return nil
}
