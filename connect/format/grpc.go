package format

import (
	"fmt"
	"strconv"

	"github.com/serai-net/serai/connect/wire"
)

// grpcOperator writes the status of a call of gRPC: from the trailers, the head,
// or what the status of HTTP means.
func grpcOperator(arg string) (operator, error) {
	var names [17]string
	switch arg {
	case "", "CAMEL_STRING":
		names = camelStatus()
	case "SNAKE_STRING":
		names = snakeStatus()
	case "NUMBER":
		return grpcNumber, nil
	default:
		return nil, fmt.Errorf("%q is none of CAMEL_STRING, SNAKE_STRING and NUMBER", arg)
	}
	return func(dst []byte, in *Input) ([]byte, kind) {
		status, ok := grpcStatus(in)
		switch {
		case !ok:
			return dst, absent
		case status < 0 || status >= int64(len(names)):
			return strconv.AppendInt(dst, status, 10), text
		}
		return append(dst, names[status]...), text
	}, nil
}

func grpcNumber(dst []byte, in *Input) ([]byte, kind) {
	status, ok := grpcStatus(in)
	if !ok {
		return dst, absent
	}
	return strconv.AppendInt(dst, status, 10), number
}

// invalidStatus stands for a grpc-status that is no number, as Envoy has it.
const invalidStatus = -1

func grpcStatus(in *Input) (int64, bool) {
	if req := in.request(); req == nil || !wire.IsGRPC(&req.Header) {
		return 0, false
	}
	value, ok := in.Trailer.Lookup("grpc-status")
	if resp := in.response(); !ok && resp != nil {
		value, ok = resp.Header.Lookup("grpc-status")
	}
	if ok {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return invalidStatus, true
		}
		return int64(n), true
	}
	if in.Exchange.Status == 0 {
		return 0, false
	}
	return int64(wire.GRPCStatus(in.Exchange.Status)), true
}

// GRPCStatus is the status of a call of gRPC (GRPC_STATUS_NUMBER); false if the
// exchange is none, or has none yet.
func (in *Input) GRPCStatus() (status int64, ok bool) { return grpcStatus(in) }

func camelStatus() [17]string {
	return [17]string{
		"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
		"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
		"Unauthenticated",
	}
}

func snakeStatus() [17]string {
	return [17]string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
		"UNAUTHENTICATED",
	}
}
