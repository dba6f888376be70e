package integration_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serai-net/serai/integration/harness"
)

// TestGRPCWeb calls a server of grpc-go through the edge by gRPC-Web, as binary by a client of connect-go and as text
// by our own frames.
func TestGRPCWeb(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", local(0))
	must(t, err)
	app := &app{name: "echo"}
	app.serveGRPC(t, listener)
	routes := map[string]string{"serai.test.Echo": fmt.Sprintf("addresses = [%q]\n        protocol = \"http2\"", listener.Addr())}
	g := startGate(t, env, "", routes)
	waitStatus(t, g.url("/nothing"), http.StatusNotFound) // it would not survive a signal before
	g.reload(t, strings.Replace(g.config(routes), "strip_prefix = false", "strip_prefix = false\n      grpc_web = true", 1))
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!h2)
		transport.Protocols.SetUnencryptedHTTP2(h2)
		t.Cleanup(transport.CloseIdleConnections)
		client := &http.Client{Transport: transport}
		t.Run(fmt.Sprintf("connect-go h2=%t", h2), func(t *testing.T) { testConnectGo(t, g, client) })
		t.Run(fmt.Sprintf("text h2=%t", h2), func(t *testing.T) { testWebText(t, g, client) })
	}
	t.Run("gRPC as it is", func(t *testing.T) { testGRPC(t, dialGRPC(t, g.addr), app) })
}

func webClient(client *http.Client, g *gate, method string) *connect.Client[text, text] {
	return connect.NewClient[text, text](client, g.url(method), connect.WithGRPCWeb())
}

func webRequest(say, key string) *connect.Request[text] {
	req := connect.NewRequest(wrapperspb.String(say))
	req.Header().Set("X-Api-Key", key)
	return req
}

func testConnectGo(t *testing.T, g *gate, client *http.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, "an answer by gRPC-Web", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := webClient(client, g, grpcSay).CallUnary(ctx, webRequest("hello", acmeKey))
		return err
	})
	for _, say := range []string{"", "hello", strings.Repeat("0123456789", 100_000)} {
		resp, err := webClient(client, g, grpcSay).CallUnary(ctx, webRequest(say, acmeKey))
		must(t, err)
		if resp.Msg.GetValue() != "echo "+say || resp.Trailer().Get("X-Sum") != fmt.Sprint(len(say)) || resp.Header().Get("X-Consumer") != "acme" {
			t.Errorf("of %d bytes came back %d, header %v, trailers %v", len(say), len(resp.Msg.GetValue()), resp.Header(), resp.Trailer())
		}
	}
	_, err := webClient(client, g, grpcFail).CallUnary(ctx, webRequest("", acmeKey))
	if failed := (*connect.Error)(nil); !errors.As(err, &failed) || failed.Code() != connect.CodeFailedPrecondition || failed.Message() != "not today: ünï" {
		t.Errorf("a failure is %v", err)
	}
	_, err = webClient(client, g, grpcSay).CallUnary(ctx, webRequest("", "wrong"))
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("without a key: %v", err)
	}
	stream, err := webClient(client, g, grpcTell).CallServerStream(ctx, webRequest("again", acmeKey))
	must(t, err)
	count := 0
	for stream.Receive() {
		if stream.Msg().GetValue() == "again" {
			count++
		}
	}
	if err := errors.Join(stream.Err(), stream.Close()); err != nil || count != 10 {
		t.Errorf("%d messages, %v", count, err)
	}
	testWebHang(ctx, t, g, client)
}

// testWebHang wants the first message of a stream while it goes on.
func testWebHang(ctx context.Context, t *testing.T, g *gate, client *http.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := webClient(client, g, grpcHang).CallServerStream(ctx, webRequest("", acmeKey))
	must(t, err)
	if !stream.Receive() || stream.Msg().GetValue() != "waiting" {
		t.Errorf("no message: %v", stream.Err())
	}
	cancel()
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeCanceled {
		t.Errorf("after its end: %v", stream.Err())
	}
	_ = stream.Close()
}

// testWebText speaks the text variant, with each part of the request padded for itself.
func testWebText(t *testing.T, g *gate, client *http.Client) {
	t.Helper()
	message, err := proto.Marshal(wrapperspb.String("hello"))
	must(t, err)
	head := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	body := base64.StdEncoding.EncodeToString(head) + base64.StdEncoding.EncodeToString(message)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url(grpcSay), strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/grpc-web-text")
	req.Header.Set("Accept", "application/grpc-web-text")
	req.Header.Set("X-Api-Key", acmeKey)
	resp, err := client.Do(req)
	must(t, err)
	defer drop(resp.Body)
	all, err := io.ReadAll(resp.Body)
	must(t, err)
	var plain []byte
	for part := range strings.SplitAfterSeq(strings.ReplaceAll(string(all), "==", "= "), "=") {
		part = strings.ReplaceAll(strings.TrimSpace(part), " ", "")
		one, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(part, "="))
		must(t, err)
		plain = append(plain, one...)
	}
	got := &text{}
	if len(plain) < 5 || int(binary.BigEndian.Uint32(plain[1:])) > len(plain)-5 {
		t.Fatalf("%s, %q", resp.Status, all)
	}
	end := 5 + int(binary.BigEndian.Uint32(plain[1:]))
	must(t, proto.Unmarshal(plain[5:end], got))
	trailer := plain[end:]
	if got.GetValue() != "echo hello" || trailer[0] != 0x80 || !bytes.Contains(trailer, []byte("grpc-status:0\r\n")) ||
		resp.Header.Get("Content-Type") != "application/grpc-web-text+proto" {
		t.Errorf("%s %v: %q, trailers %q", resp.Status, resp.Header, got.GetValue(), trailer)
	}
}
