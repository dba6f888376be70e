package stack

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// LocalReply changes answers of our own (local_reply_config), whoever behind it makes
// them, before any filter sees them. A nil config makes no layer.
func LocalReply(c *mesh.LocalReply) (wire.Layer, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // no layer
	}
	r := &replies{}
	var err error
	if r.body, err = compileReplyBody(c.Body); err != nil {
		return nil, err
	}
	for i := range c.Mappers {
		from := &c.Mappers[i]
		m := replyMapper{ReplyMapper: from}
		if m.applies, err = accesslog.CompileFilter(from.Filter); err != nil {
			return nil, fmt.Errorf("local reply: %w", err)
		}
		if m.edit, err = route.CompileEdit(&mesh.HeaderEdit{ResponseSet: from.Set}); err != nil {
			return nil, fmt.Errorf("local reply: %w", err)
		}
		if m.body, err = compileReplyBody(from.Body); err != nil {
			return nil, err
		}
		r.mappers = append(r.mappers, m)
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.Rewriter = r
			return next.Serve(x, req)
		})
	}, nil
}

// replies is a compiled [mesh.LocalReply].
type replies struct {
	mappers []replyMapper
	body    *replyBody
}

type replyMapper struct {
	*mesh.ReplyMapper
	applies accesslog.Filter
	edit    *route.Edit
	body    *replyBody
}

// replyBody is a compiled [mesh.ReplyBody]: text, or json if it is not nil.
type replyBody struct {
	*mesh.ReplyBody
	text *format.Text
	json *format.JSON
}

func compileReplyBody(b *mesh.ReplyBody) (*replyBody, error) {
	if b == nil {
		return nil, nil //nolint:nilnil // nil writes nothing
	}
	c := &replyBody{ReplyBody: b}
	var err error
	if b.JSON != nil {
		c.json, err = format.CompileJSON(b.JSON)
	} else {
		c.text, err = format.Compile(b.Text)
	}
	if err != nil {
		return nil, fmt.Errorf("local reply: %w", err)
	}
	return c, nil
}

// write writes the body; an object of JSON ends its line.
func (b *replyBody) write(in *format.Input) []byte {
	switch {
	case b.json != nil && b.OmitEmpty:
		return append(b.json.AppendKnown(nil, in), '\n')
	case b.json != nil:
		return append(b.json.Append(nil, in), '\n')
	case b.OmitEmpty:
		return b.text.AppendKnown(nil, in)
	}
	return b.text.Append(nil, in)
}

// Rewrite implements [wire.Rewriter]. What filters and texts see of the status is the
// answer's, and then what it becomes.
func (r *replies) Rewrite(x *wire.Exchange, resp *wire.Response, text string) (body, kind string, ok bool) {
	defer func(before int) { x.Status = before }(x.Status)
	x.Status = resp.Status
	in := &format.Input{Exchange: x, Response: resp, LocalBody: text}
	writer, told := r.body, resp.Header.Get("content-type")
	for i := range r.mappers {
		m := &r.mappers[i]
		if !m.applies(in) {
			continue
		}
		if m.HasText {
			in.LocalBody, ok = m.Text, true
		}
		m.edit.Response(x, resp)
		if m.Status != 0 {
			x.Status, resp.Status = m.Status, m.Status
		}
		if m.body != nil {
			writer = m.body
		}
		break
	}
	body, kind = in.LocalBody, "text/plain"
	if writer != nil {
		body, kind, ok = string(writer.write(in)), writer.Type, true
	}
	if x.GRPC && kind == "application/json" {
		body = strings.TrimSuffix(body, "\n") // a field needs no end of a line
	}
	if told != resp.Header.Get("content-type") || told != "" && body == text {
		kind = "" // the mapper has said, or nothing else is said
	}
	return body, kind, ok
}
