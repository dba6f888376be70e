package plugins

import "github.com/serai-net/serai/plugins/internal/pluginpb"

func fromRequest(r *pluginpb.Request) *Request {
	return &Request{
		ID: string(r.GetId()), Method: string(r.GetMethod()), Scheme: string(r.GetScheme()),
		Authority: string(r.GetAuthority()), Path: string(r.GetPath()),
		Header: fromFields(r.GetHeader()), Body: r.GetBody(), Client: string(r.GetClient()),
		Consumer: string(r.GetConsumer()), API: string(r.GetApi()), Route: string(r.GetRoute()),
	}
}

func fromResponse(r *pluginpb.Response) *Response {
	return &Response{Status: int(r.GetStatus()), Header: fromFields(r.GetHeader())}
}

func fromFields(fields []*pluginpb.Field) []Field {
	out := make([]Field, len(fields))
	for i, f := range fields {
		out[i] = Field{string(f.GetName()), string(f.GetValue())}
	}
	return out
}

func toFields(fields []Field) []*pluginpb.Field {
	out := make([]*pluginpb.Field, len(fields))
	for i := range fields {
		out[i] = &pluginpb.Field{Name: []byte(fields[i].Name), Value: []byte(fields[i].Value)}
	}
	return out
}

func toHeaderChange(remove []string, set, add []Field) *pluginpb.HeaderChange {
	names := make([][]byte, len(remove))
	for i, name := range remove {
		names[i] = []byte(name)
	}
	return &pluginpb.HeaderChange{Remove: names, Set: toFields(set), Add: toFields(add)}
}

func toIdentity(i *Identity) *pluginpb.Identity {
	return &pluginpb.Identity{Consumer: []byte(i.Consumer), Header: toHeaderChange(i.Remove, i.Set, nil)}
}

// toRequestChange takes nil for no change.
func toRequestChange(c *RequestChange) *pluginpb.RequestChange {
	if c == nil {
		return &pluginpb.RequestChange{}
	}
	return &pluginpb.RequestChange{Header: toHeaderChange(c.Remove, c.Set, c.Add), Path: []byte(c.Path)}
}

// toResponseChange takes nil for no change.
func toResponseChange(c *ResponseChange) *pluginpb.ResponseChange {
	if c == nil {
		return &pluginpb.ResponseChange{}
	}
	return &pluginpb.ResponseChange{Header: toHeaderChange(c.Remove, c.Set, c.Add), Status: toStatus(c.Status)}
}

func toRefusal(r *Refusal) *pluginpb.Refusal {
	return &pluginpb.Refusal{Status: toStatus(r.Status), Text: []byte(r.Text), Header: toFields(r.Header)}
}

// toStatus makes what is none a status that the host refuses.
func toStatus(status int) uint32 {
	if status < 0 || status > 999 {
		return 999
	}
	return uint32(status)
}
