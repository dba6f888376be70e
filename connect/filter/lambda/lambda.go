package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxPayload is what Lambda takes and gives at once, in bytes, and some more for
	// what base64 adds.
	maxPayload = 8 << 20
	// credentialsWait is how long a request waits for credentials.
	credentialsWait = 5 * time.Second
)

// Place is where a filter stands.
type Place struct {
	// Gateway tells whether a request goes to a cluster that is Lambda's.
	Gateway func(x *wire.Exchange, req *wire.Request) bool
	// Credentials are those of the machine, for who has none in the configuration.
	Credentials *Credentials
	// Stats is where failures are counted.
	Stats *stats.Scope
}

// filter is a compiled [mesh.Lambda].
type filter struct {
	*mesh.Lambda
	place  Place
	signer *v4.Signer
	source aws.CredentialsProvider
	failed *stats.Counter
}

// New makes the layer of a function.
func New(c *mesh.Lambda, place Place) wire.Layer {
	f := &filter{
		Lambda: c, place: place, signer: v4.NewSigner(), source: place.Credentials,
		failed: place.Stats.Counter("server_error"),
	}
	if c.AccessKey != "" {
		fixed := aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SessionToken: c.Session}
		f.source = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return fixed, nil })
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if req.Raw() || !place.Gateway(x, req) {
				return next.Serve(x, req)
			}
			return f.serve(x, req, next)
		})
	}
}

func (f *filter) serve(x *wire.Exchange, req *wire.Request, next wire.Service) (*wire.Response, error) {
	payload, err := f.invoke(x, req)
	if err != nil {
		return nil, err
	}
	req.Body, req.ContentLength, req.ExpectContinue = nil, int64(len(payload)), false
	if len(payload) > 0 {
		req.Body = wire.NewBytes(payload)
	}
	resp, err := next.Serve(x, req)
	// An error of the function is handed on as Lambda tells it.
	if err != nil || f.Passthrough || f.Async || resp.Header.Has("x-amz-function-error") || resp.Body == nil {
		return resp, err
	}
	return f.result(x, resp)
}

// invoke makes req the invocation that stands for it, but for its body, which it
// returns.
func (f *filter) invoke(x *wire.Exchange, req *wire.Request) ([]byte, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = wire.ReadAll(req.Body, maxPayload); err != nil {
			if errors.Is(err, wire.ErrTooLarge) {
				err = &wire.Fault{Status: http.StatusRequestEntityTooLarge, Text: "Payload Too Large", Err: err}
			}
			return nil, err
		}
	}
	if !f.Passthrough {
		var err error
		if body, err = tell(req, body); err != nil {
			return nil, err
		}
		req.Header.Set("content-type", "application/json")
	}
	req.Method, req.Path = http.MethodPost, "/2015-03-31/functions/"+f.ARN+"/invocations"
	if f.HostRewrite != "" {
		req.Authority = f.HostRewrite
	}
	kind := "RequestResponse"
	if f.Async {
		kind = "Event"
	}
	dropOrders(&req.Header)
	req.Header.Set("x-amz-invocation-type", kind)
	return body, f.sign(x, req, body)
}

// dropOrders drops what tells Lambda itself what to do: a client might ask for the
// function's log, or give it a context that is not ours.
func dropOrders(h *wire.Header) {
	var orders []string
	for name := range h.All() {
		if strings.HasPrefix(name, "x-amz-") {
			orders = append(orders, name)
		}
	}
	for _, name := range orders {
		h.Del(name)
	}
}

// sign adds the signature. Only what must be is signed, so that a layer behind us
// may add to the rest.
func (f *filter) sign(x *wire.Exchange, req *wire.Request, body []byte) error {
	ctx, cancel := context.WithTimeout(x.Context(), credentialsWait)
	defer cancel()
	credentials, err := f.source.Retrieve(ctx)
	if err != nil {
		f.failed.Add(1)
		return &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagInternal, Err: fmt.Errorf("aws_lambda: credentials: %w", err)}
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	r := &http.Request{
		Method: req.Method, Host: req.Authority, ContentLength: int64(len(body)),
		URL: &url.URL{Scheme: "https", Host: req.Authority, Path: req.Path},
		Header: http.Header{
			"X-Amz-Invocation-Type": {req.Header.Get("x-amz-invocation-type")},
			"X-Amz-Content-Sha256":  {hash},
		},
	}
	if kind := req.Header.Get("content-type"); kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if err := f.signer.SignHTTP(ctx, credentials, r, hash, "lambda", f.Region, time.Now()); err != nil {
		f.failed.Add(1)
		return &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagInternal, Err: fmt.Errorf("aws_lambda: sign: %w", err)}
	}
	for _, name := range []string{"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"} {
		if value := r.Header.Get(name); value != "" {
			req.Header.Set(name, value)
		}
	}
	return nil
}
