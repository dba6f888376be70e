package host

import (
	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// copier copies strings into one buffer: gRPC may still read a message when the
// call has long returned.
type copier struct{ buffer []byte }

func newCopier(size int) *copier { return &copier{make([]byte, 0, size)} }

func (c *copier) copy(text string) []byte {
	begin := len(c.buffer)
	c.buffer = append(c.buffer, text...)
	return c.buffer[begin:len(c.buffer):len(c.buffer)]
}

func (c *copier) fields(from []plugins.Field) []*pluginpb.Field {
	fields := make([]pluginpb.Field, len(from))
	to := make([]*pluginpb.Field, len(from))
	for i := range from {
		fields[i].Name, fields[i].Value = c.copy(from[i].Name), c.copy(from[i].Value)
		to[i] = &fields[i]
	}
	return to
}

func sizeOf(fields []plugins.Field) (size int) {
	for i := range fields {
		size += len(fields[i].Name) + len(fields[i].Value)
	}
	return size
}

// toRequest copies all but the body.
func toRequest(r *plugins.Request) *pluginpb.Request {
	c := newCopier(len(r.ID) + len(r.Method) + len(r.Scheme) + len(r.Authority) + len(r.Path) + len(r.Client) +
		len(r.Consumer) + len(r.API) + len(r.Route) + sizeOf(r.Header))
	return &pluginpb.Request{
		Id: c.copy(r.ID), Method: c.copy(r.Method), Scheme: c.copy(r.Scheme), Authority: c.copy(r.Authority),
		Path: c.copy(r.Path), Header: c.fields(r.Header), Body: r.Body, Client: c.copy(r.Client),
		Consumer: c.copy(r.Consumer), Api: c.copy(r.API), Route: c.copy(r.Route),
	}
}

func toResponse(r *plugins.Response) *pluginpb.Response {
	return &pluginpb.Response{
		Status: uint32(min(max(r.Status, 0), 999)), Header: newCopier(sizeOf(r.Header)).fields(r.Header),
	}
}
