package stack

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// maxReply bounds the body of an answer of our own that is written anew, in bytes.
const maxReply = 1 << 20

// LocalReply changes answers that do not come of an upstream (local_reply_config). A nil
// config makes no layer.
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
			resp, err := next.Serve(x, req)
			if err == nil && x.Details == "via_upstream" && x.Err == nil {
				return resp, nil
			}
			if err != nil {
				resp = wire.Reply(x, err)
			}
			return r.change(x, resp)
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

// change makes of an answer what the configuration says. What filters and texts see of
// the status is the answer's, and then what it becomes.
func (r *replies) change(x *wire.Exchange, resp *wire.Response) (*wire.Response, error) {
	status := replyStatus(x, resp)
	text, err := replyText(x, resp)
	if err != nil {
		return nil, err
	}
	in := &format.Input{Exchange: x, Response: resp, LocalBody: text}
	x.Status = status
	defer func() { x.Status = 0 }() // until it is sent
	body, changed := r.body, r.body != nil
	own := resp.Header.Get("content-type")
	for i := range r.mappers {
		m := &r.mappers[i]
		if !m.applies(in) {
			continue
		}
		if m.HasText {
			in.LocalBody, changed = m.Text, true
		}
		m.edit.Response(x, resp)
		if m.Status != 0 {
			x.Status = m.Status
		}
		if m.body != nil {
			body, changed = m.body, true
		}
		break
	}
	written, kind := []byte(in.LocalBody), "text/plain"
	if !x.GRPC {
		resp.Status = x.Status
	}
	if body != nil {
		written, kind = body.write(in), body.Type
	}
	switch {
	case x.GRPC:
		if kind == "application/json" {
			written = bytes.TrimSuffix(written, []byte("\n")) // a field needs no end of a line
		}
		grpcRewritten(x, resp, status, string(written))
	case changed:
		rewritten(resp, written, kind, own != resp.Header.Get("content-type"))
	}
	return resp, nil
}

// replyStatus is the status of HTTP that an answer has, or would have if it were not
// told in the terms of gRPC.
func replyStatus(x *wire.Exchange, resp *wire.Response) int {
	if !x.GRPC {
		return resp.Status
	}
	if fault, ok := errors.AsType[*wire.Fault](x.Err); ok && fault.Status != 0 {
		return fault.Status
	}
	return cmp.Or(x.Status, resp.Status)
}

// replyText is the body of an answer, without the line break that ours end with.
func replyText(x *wire.Exchange, resp *wire.Response) (string, error) {
	if x.GRPC {
		return url.PathUnescape(resp.Header.Get("grpc-message"))
	}
	if resp.Body == nil {
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if len(text) > maxReply {
		return "", errors.New("an answer of our own is too large to be written anew")
	}
	resp.Body = wire.NewBytes(text)
	return strings.TrimSuffix(string(text), "\n"), nil
}

// rewritten puts a body into an answer. Its type is kind, unless the answer has got one
// of its own.
func rewritten(resp *wire.Response, body []byte, kind string, own bool) {
	resp.Body, resp.ContentLength = wire.NewBytes(body), int64(len(body))
	switch {
	case len(body) == 0:
		resp.Header.Del("content-type")
	case !own:
		resp.Header.Set("content-type", kind)
	}
}

// grpcRewritten tells a call of gRPC of another status and text.
func grpcRewritten(x *wire.Exchange, resp *wire.Response, before int, text string) {
	if x.Status != before {
		resp.Header.Set("grpc-status", strconv.Itoa(wire.GRPCStatus(x.Status)))
	}
	resp.Header.Set("content-type", cmp.Or(x.GRPCType, "application/grpc")) // whatever a mapper has added
	if text = strings.Trim(wire.GRPCMessage(text), " "); text == "" {
		resp.Header.Del("grpc-message")
		return
	}
	resp.Header.Set("grpc-message", text)
}
