package extauthz

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/wire"
)

const (
	checkMethod = "/envoy.service.auth.v3.Authorization/Check"
	// partialBody says whether the service sees only a part of the body.
	partialBody = "x-envoy-auth-partial-body"
)

// askGRPC asks a service of gRPC.
func (f *filter) askGRPC(ctx context.Context, to wire.Service, question *authv3.CheckRequest) (*verdict, error) {
	message, err := proto.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("make the question: %w", err)
	}
	authority := f.Service.Authority
	if authority == "" {
		authority = f.Service.Cluster
	}
	var metadata []wire.Field
	for _, m := range f.Service.Metadata {
		metadata = append(metadata, wire.Field{Name: m.Name, Value: m.Value})
	}
	answer, err := call.Unary(ctx, to, authority, checkMethod, metadata, message)
	if err != nil {
		return nil, err
	}
	resp := &authv3.CheckResponse{}
	if err := proto.Unmarshal(answer, resp); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return read(resp)
}

// question is the request as the service is told of it.
func (f *filter) question(x *wire.Exchange, req *wire.Request, body shown) *authv3.CheckRequest {
	if x.ID == "" {
		x.NewID(rand.Uint64())
	}
	attributes := f.connection(x.Peer)
	attributes.Source.Service = sanitize(req.Header.Get("x-envoy-downstream-service-cluster"))
	told := &authv3.AttributeContext_HttpRequest{
		Id: sanitize(x.ID), Method: sanitize(req.Method), Headers: f.fields(req), Path: sanitize(req.Path), Host: sanitize(req.Authority),
		Scheme: req.Scheme, Size: int64(len(body.data)), Protocol: protocol(req),
	}
	if body.is {
		if f.Body.Raw {
			told.RawBody = body.data
		} else {
			told.Body = sanitize(string(body.data))
		}
		told.Headers[partialBody] = fmt.Sprint(body.partial)
	}
	attributes.Request = &authv3.AttributeContext_Request{Time: timestamppb.New(x.Start), Http: told}
	attributes.MetadataContext, attributes.ContextExtensions = f.metadata(x), f.Context
	return &authv3.CheckRequest{Attributes: attributes}
}

// connection is what is told of a connection.
func (f *filter) connection(peer *wire.Peer) *authv3.AttributeContext {
	a := &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: address(peer.Addr), Principal: Principal(peer.Certificate)},
		Destination: &authv3.AttributeContext_Peer{Address: address(peer.Local), Labels: f.place.Labels},
	}
	if peer.TLS {
		a.Destination.Principal = f.place.Principal
		if f.TLSSession {
			a.TlsSession = &authv3.AttributeContext_TLSSession{Sni: peer.ServerName}
		}
	}
	if peer.Certificate == nil && !peer.ID.IsZero() { // who explains has a name and no more
		a.Source.Principal = peer.ID.String()
	}
	if f.PeerCertificate && peer.Certificate != nil {
		a.Source.Certificate = urlPEM(peer.Certificate)
	}
	return a
}

func address(a netip.AddrPort) *corev3.Address {
	if !a.IsValid() {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().Unmap().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

// Principal is the name of who has a certificate: its first URI, else its first
// DNS name, else its subject; "" for nil.
func Principal(c *x509.Certificate) string {
	switch {
	case c == nil:
		return ""
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	}
	return c.Subject.String()
}

// urlPEM is a certificate in PEM, encoded as in x-forwarded-client-cert.
func urlPEM(c *x509.Certificate) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(string(text))
}

// fields are the header fields that the service is told, pseudo-header fields
// among them, each name once.
func (f *filter) fields(req *wire.Request) map[string]string {
	told := make(map[string]string, req.Header.Len()+4)
	tell := func(name, value string) {
		if name == partialBody || f.allowed != nil && !anyMatches(f.allowed, name) || anyMatches(f.disallowed, name) {
			return
		}
		value = sanitize(value)
		if before, ok := told[name]; ok && before != "" {
			value = before + "," + value
		}
		told[name] = value
	}
	tell(":method", req.Method)
	tell(":path", req.Path)
	tell(":scheme", req.Scheme)
	tell(":authority", req.Authority)
	if req.ContentLength > 0 || req.ContentLength == 0 && req.Body != nil {
		tell("content-length", fmt.Sprint(req.ContentLength))
	}
	for name, value := range req.Header.All() {
		tell(name, value)
	}
	return told
}

func protocol(req *wire.Request) string {
	switch {
	case req.Proto == 2:
		return "HTTP/2"
	case req.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// metadata is what other filters have found out, of the namespaces that are told.
func (f *filter) metadata(x *wire.Exchange) *corev3.Metadata {
	out := &corev3.Metadata{}
	for _, namespace := range f.Namespaces {
		all := x.Metadata.Namespace(namespace)
		if all == nil {
			continue
		}
		fields, err := structpb.NewStruct(clean(all))
		if err != nil {
			continue // nothing but what encoding/json gives is in there
		}
		if out.FilterMetadata == nil {
			out.FilterMetadata = map[string]*structpb.Struct{}
		}
		out.FilterMetadata[namespace] = fields
	}
	return out
}

// clean makes every string in a map valid UTF-8, which a message must be.
func clean(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[sanitize(key)] = cleanValue(value)
	}
	return out
}

func cleanValue(value any) any {
	switch v := value.(type) {
	case string:
		return sanitize(v)
	case map[string]any:
		return clean(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = cleanValue(v[i])
		}
		return out
	}
	return value
}

// sanitize is s with "!" for each byte that is not of UTF-8, as Envoy does it.
func sanitize(s string) string {
	if utf8.ValidString(s) {
		return strings.Clone(s)
	}
	var b bytes.Buffer
	for i, r := range s {
		if _, size := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && size == 1 {
			b.WriteByte('!')
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
