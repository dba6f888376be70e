package stack

import (
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// What a content type of gRPC and of its variants for browsers begins with.
const (
	grpcType    = "application/grpc"
	webType     = "application/grpc-web"
	webTextType = "application/grpc-web-text"
)

// GRPCWeb lets clients of gRPC-Web call gRPC (grpc/doc/PROTOCOL-WEB.md), as Envoy's
// filter of that name: trailers come at the end of the response's body, in a frame
// of their own, and the text variant of either direction is base64. What is no
// gRPC-Web passes as it is, and so does a response that is no gRPC.
func GRPCWeb(next wire.Service) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		kind, ok := webKindOf(req.Header.Get("content-type"))
		if !ok || req.Raw() {
			return next.Serve(x, req)
		}
		answer := webKind{text: wantsText(req.Header.Joined("accept"), kind.text), codec: kind.codec}
		// Errors of our own are told in gRPC-Web, too.
		x.GRPC, x.GRPCType = true, answer.contentType()
		req.Header.Set("content-type", grpcType+kind.codec)
		req.Header.Set("te", "trailers")
		if kind.text && req.Body != nil {
			req.Body, req.ContentLength = &textReader{body: req.Body}, wire.UnknownLength
		}
		resp, err := next.Serve(x, req)
		if err != nil {
			return nil, err
		}
		if wire.IsGRPC(&resp.Header) {
			answer.answer(resp)
		}
		return resp, nil
	})
}

// webKind is a variant of gRPC-Web.
type webKind struct {
	text bool
	// codec is the suffix of the content type, such as "+proto"; "" if there is none.
	codec string
}

// webKindOf reads a content type.
func webKindOf(contentType string) (k webKind, ok bool) {
	contentType, _, _ = strings.Cut(contentType, ";")
	contentType = strings.ToLower(strings.TrimSpace(contentType))
	if k.codec, ok = strings.CutPrefix(contentType, webTextType); ok {
		k.text = true
	} else if k.codec, ok = strings.CutPrefix(contentType, webType); !ok {
		return k, false
	}
	return k, k.codec == "" || k.codec[0] == '+'
}

// contentType is that of a response.
func (k webKind) contentType() string {
	codec := k.codec
	if codec == "" {
		codec = "+proto"
	}
	if k.text {
		return webTextType + codec
	}
	return webType + codec
}

// wantsText tells whether the response is to be text; asked says whether the
// request is, which counts if Accept says nothing of gRPC-Web.
func wantsText(accept string, asked bool) bool {
	text, binary := false, false
	for item := range strings.SplitSeq(accept, ",") {
		if k, ok := webKindOf(item); ok {
			text, binary = text || k.text, binary || !k.text
		}
	}
	return text || asked && !binary
}

// answer makes a response of gRPC one of gRPC-Web.
func (k webKind) answer(resp *wire.Response) {
	resp.Header.Set("content-type", k.contentType())
	resp.Header.Del("trailer")
	if resp.Body == nil { // what would be trailers has come with the head
		return
	}
	resp.ContentLength = wire.UnknownLength
	resp.Body = &webBody{body: resp.Body, text: k.text}
}
