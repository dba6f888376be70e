package lambda_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/filter/lambda"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

func serve(layer wire.Layer, req *wire.Request, answer string) (*wire.Response, error, bool) {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	asked := false
	resp, err := layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		asked = true
		return &wire.Response{Status: 200, ContentLength: int64(len(answer)), Body: wire.NewBytes([]byte(answer))}, nil
	})).Serve(x, req)
	x.Done(time.Now())
	return resp, err, asked
}

func request() *wire.Request {
	return &wire.Request{Method: "GET", Scheme: "http", Authority: "a", Path: "/", Proto: 1, Minor: 1}
}

func config() *mesh.Lambda {
	return &mesh.Lambda{ARN: "arn:aws:lambda:us-east-1:1:function:f", Region: "us-east-1"}
}

func always(*wire.Exchange, *wire.Request) bool { return true }

// Credentials come of the environment, else of the container's agent; what is
// missing is an error, and nothing is sent unsigned.
func TestCredentials(t *testing.T) {
	t.Parallel()
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"AGENT","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
	}))
	t.Cleanup(agent.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		env    map[string]string
		key    string
		failed bool
	}{
		{"environment", map[string]string{"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}, "ENV", false},
		{"agent", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret"}, "AGENT", false},
		{"agent by file", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}, "AGENT", false},
		{"agent refuses", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL}, "", true},
		{"agent elsewhere", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://10.0.0.1/"}, "", true},
		{"none", map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			registry := &stats.Registry{}
			layer := lambda.New(config(), lambda.Place{
				Gateway: always, Credentials: &lambda.Credentials{Getenv: func(name string) string { return tt.env[name] }}, Stats: registry.Scope(""),
			})
			req := request()
			resp, err, asked := serve(layer, req, `{"status_code":204}`)
			if tt.failed {
				if fault := wire.AsFault(err); fault.Status != http.StatusServiceUnavailable || asked {
					t.Errorf("%v, %v, asked %t", resp, err, asked)
				}
				return
			}
			if err != nil || resp.Status != 204 || !strings.Contains(req.Header.Get("authorization"), "Credential="+tt.key+"/") || req.Header.Get("x-amz-security-token") != "t" {
				t.Errorf("%+v, %v, %+v", resp, err, req)
			}
		})
	}
}

// What does not go to Lambda passes as it is.
// What a client says to Lambda itself does not come there; what it says of its trace does.
func TestOrdersAreDropped(t *testing.T) {
	t.Parallel()
	registry := &stats.Registry{}
	c := config()
	c.AccessKey, c.SecretKey, c.Passthrough = "a", "s", true
	req := request()
	for _, name := range []string{"x-amz-log-type", "x-amz-client-context", "x-amz-invocation-type", "x-amz-date", "x-amz-security-token", "x-amzn-trace-id"} {
		req.Header.Add(name, "client")
	}
	if _, err, _ := serve(lambda.New(c, lambda.Place{Gateway: always, Stats: registry.Scope("")}), req, "{}"); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for name, value := range req.Header.All() {
		if value == "client" {
			kept = append(kept, name)
		}
	}
	if strings.Join(kept, " ") != "x-amzn-trace-id" || req.Header.Get("x-amz-invocation-type") != "RequestResponse" {
		t.Errorf("kept %v, %v", kept, req.Header)
	}
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	layer := lambda.New(config(), lambda.Place{Gateway: func(*wire.Exchange, *wire.Request) bool { return false }})
	req := request()
	resp, err, _ := serve(layer, req, "answer")
	if err != nil || resp.ContentLength != 6 || req.Method != "GET" || req.Header.Len() != 0 {
		t.Errorf("%+v, %v, %+v", resp, err, req)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
func (endless) Trailer() *wire.Header      { return nil }
func (endless) Close() error               { return nil }

func TestTooLarge(t *testing.T) {
	t.Parallel()
	c := config()
	c.AccessKey, c.SecretKey = "k", "s"
	layer := lambda.New(c, lambda.Place{Gateway: always})
	req := request()
	req.Body, req.ContentLength = endless{}, wire.UnknownLength
	if _, err, asked := serve(layer, req, ""); wire.AsFault(err).Status != http.StatusRequestEntityTooLarge || asked {
		t.Errorf("%v", err)
	}
}

// FuzzAnswer: whatever a function answers, what becomes of it is a valid response.
func FuzzAnswer(f *testing.F) {
	f.Add(`{"status_code":201,"headers":{"a":"b"},"cookies":["c=d"],"body":"aGk=","is_base64_encoded":true}`)
	f.Add(`{"statusCode":99999,"headers":{"a\n":"b\r\n","content-length":"7",":status":"1"},"isBase64Encoded":true,"body":"!"}`)
	f.Add(`[]`)
	f.Add(``)
	c := config()
	c.AccessKey, c.SecretKey = "k", "s"
	layer := lambda.New(c, lambda.Place{Gateway: always})
	f.Fuzz(func(t *testing.T, answer string) {
		resp, err, _ := serve(layer, request(), answer)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Status < 200 || resp.Status > 599 {
			t.Errorf("status %d", resp.Status)
		}
		for name, value := range resp.Header.All() {
			if err := wire.CheckField(name, value); err != nil {
				t.Error(err)
			}
		}
		var body []byte
		if resp.Body != nil {
			if body, err = io.ReadAll(resp.Body); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
		if int64(len(body)) != resp.ContentLength {
			t.Errorf("%d bytes, length %d", len(body), resp.ContentLength)
		}
	})
}
