package host

import (
	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// toRequest copies: gRPC may still read the message when the call has long
// returned.
func toRequest(r *plugins.Request) *pluginpb.Request {
	return &pluginpb.Request{
		Id: []byte(r.ID), Method: []byte(r.Method), Scheme: []byte(r.Scheme), Authority: []byte(r.Authority),
		Path: []byte(r.Path), Header: toFields(r.Header), Body: r.Body, Client: []byte(r.Client),
		Consumer: []byte(r.Consumer), Api: []byte(r.API), Route: []byte(r.Route),
	}
}

func toResponse(r *plugins.Response) *pluginpb.Response {
	return &pluginpb.Response{Status: uint32(min(max(r.Status, 0), 999)), Header: toFields(r.Header)}
}

func toFields(from []plugins.Field) []*pluginpb.Field {
	fields := make([]pluginpb.Field, len(from))
	to := make([]*pluginpb.Field, len(from))
	for i := range from {
		fields[i].Name, fields[i].Value = []byte(from[i].Name), []byte(from[i].Value)
		to[i] = &fields[i]
	}
	return to
}
