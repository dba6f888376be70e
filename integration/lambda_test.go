package integration_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

const (
	lambdaARN    = "arn:aws:lambda:eu-central-1:111111111111:function:hello"
	lambdaHost   = "lambda.eu-central-1.amazonaws.com"
	lambdaKey    = "AKIDEXAMPLE"
	lambdaSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// verifySigV4 tells whether a request is signed as AWS wants it (AWS General Reference, "Signature Version 4"). It knows
// nothing of AWS's SDK.
func verifySigV4(r *http.Request, body []byte) error {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return errors.New("not signed")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[key] = value
	}
	date := r.Header.Get("X-Amz-Date")
	if len(date) != len("20060102T150405Z") {
		return fmt.Errorf("date %q", date)
	}
	scope := date[:8] + "/eu-central-1/lambda/aws4_request"
	if parts["Credential"] != lambdaKey+"/"+scope {
		return fmt.Errorf("credential %q", parts["Credential"])
	}
	names := strings.Split(parts["SignedHeaders"], ";")
	if !slices.Contains(names, "host") || !slices.IsSorted(names) {
		return fmt.Errorf("signed headers %v", names)
	}
	var headers strings.Builder
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	var path []string
	for segment := range strings.SplitSeq(r.URL.EscapedPath(), "/") {
		path = append(path, strings.ReplaceAll(url.QueryEscape(segment), "+", "%20"))
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if told := r.Header.Get("X-Amz-Content-Sha256"); told != "" && told != hash {
		return fmt.Errorf("payload hash %s", told)
	}
	canonical := strings.Join([]string{r.Method, strings.Join(path, "/"), r.URL.RawQuery, headers.String(), parts["SignedHeaders"], hash}, "\n")
	hashed := sha256.Sum256([]byte(canonical))
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	key := []byte("AWS4" + lambdaSecret)
	for step := range strings.SplitSeq(scope, "/") {
		key = mac(key, step)
	}
	want := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hex.EncodeToString(hashed[:])))
	if parts["Signature"] != want {
		return fmt.Errorf("signature %s, want %s of\n%s", parts["Signature"], want, canonical)
	}
	return nil
}

// invocation is one as Lambda got it.
type invocation struct {
	Path, Method, Kind, ContentType, Host string
	Event                                 map[string]any
	Raw                                   string
}

// lambda stands in for AWS Lambda: it takes only what is signed.
type lambda struct {
	mu     sync.Mutex // guards:
	got    *invocation
	answer string
	failed bool
}

func (l *lambda) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if err := verifySigV4(r, body); err != nil {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	host := r.Host
	l.got = &invocation{
		Path: r.URL.Path, Method: r.Method, Kind: r.Header.Get("X-Amz-Invocation-Type"), ContentType: r.Header.Get("Content-Type"), Host: host,
	}
	if json.Unmarshal(body, &l.got.Event) != nil {
		l.got.Raw = string(body)
	}
	if headers, ok := l.got.Event["headers"].(map[string]any); ok {
		for name := range headers { // what a proxy adds of its own
			if strings.HasPrefix(name, "x-envoy") || strings.HasPrefix(name, "x-forwarded") || name == "x-request-id" {
				delete(headers, name)
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if l.failed {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
	}
	fmt.Fprint(w, l.answer)
}

// TestLambda invokes a function through our proxy and through Envoy, which must ask and answer alike. Who is asked
// verifies signatures by itself.
func TestLambda(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	function := &lambda{}
	port, err := env.Port()
	must(t, err)
	server := &http.Server{Handler: function, ReadHeaderTimeout: patience}
	listener := listenAt(t, port)
	t.Cleanup(func() { drop(server) })
	go func() { _ = server.Serve(listener) }()
	configs := []string{``, `,"payload_passthrough":true`, `,"invocation_mode":"ASYNCHRONOUS","payload_passthrough":true,"host_rewrite":"lambda.test"`}
	twins := staticTwins(t, env, len(configs), func(ports []int) (clusters, listeners []json.RawMessage) {
		for name, metadata := range map[string]string{
			"lambda": `,"metadata":{"filter_metadata":{"com.amazonaws.lambda":{"egress_gateway":true}}}`, "plain": "",
		} {
			clusters = append(clusters, json.RawMessage(fmt.Sprintf(`{"name":%q,"connect_timeout":"5s"%s,"load_assignment":{"cluster_name":%q,
				"endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}}]}]}}`, name, metadata, name, port)))
		}
		for i, config := range configs {
			listeners = append(listeners, json.RawMessage(fmt.Sprintf(`{"name":"l%d","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},
				"filter_chains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typed_config":{
				"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"s%d",
				"strip_any_host_port":true,
				"route_config":{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[
					{"match":{"prefix":"/plain"},"route":{"cluster":"plain"}},{"match":{"prefix":"/"},"route":{"cluster":"lambda"}}]}]},
				"http_filters":[{"name":"envoy.filters.http.aws_lambda","typed_config":{
					"@type":"type.googleapis.com/envoy.extensions.filters.http.aws_lambda.v3.Config","arn":%q,
					"credentials":{"access_key_id":%q,"secret_access_key":%q}%s}},
				{"name":"envoy.filters.http.router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`,
				i, ports[i], i, lambdaARN, lambdaKey, lambdaSecret, config)))
		}
		return clusters, listeners
	})
	type result struct {
		Status int
		Body   string
		Header map[string]string
		Got    *invocation
	}
	put := func(kind string, listener int, method, path, body, contentType string) result {
		function.mu.Lock()
		function.got = nil
		function.mu.Unlock()
		got := ask(t, method, "http://"+local(twins[kind].ports[listener])+path, strings.NewReader(body), func(r *http.Request) {
			r.Header.Set("X-Many", "1")
			r.Header.Add("X-Many", "2")
			r.Header.Set("X-Amz-Date", "forged")
			if contentType != "" {
				r.Header.Set("Content-Type", contentType)
			}
		})
		function.mu.Lock()
		defer function.mu.Unlock()
		r := result{Status: got.status, Body: got.body, Got: function.got, Header: map[string]string{}}
		for _, name := range []string{"Content-Type", "X-Answer", "Set-Cookie", "X-Amz-Function-Error"} {
			r.Header[name] = strings.Join(got.header.Values(name), ";")
		}
		return r
	}
	for _, tt := range []struct {
		name                            string
		listener                        int
		method, path, body, contentType string
		answer                          string
		failed                          bool
		status                          int
	}{
		{"told in JSON", 0, "PUT", "/a/b?x=1&y=a%20b", "hello", "text/plain", `{"status_code":201,"headers":{"X-Answer":"yes","content-type":"text/html"},"cookies":["a=b","c=d"],"body":"hi"}`, false, 201},
		{"without a body", 0, "GET", "/", "", "", `{"body":"hi"}`, false, 200},
		{"bytes", 0, "POST", "/", "\x00\x01\xff", "application/octet-stream", `{"statusCode":200,"isBase64Encoded":true,"body":"aGkA"}`, false, 200},
		{"bad answer", 0, "GET", "/", "", "", `not JSON`, false, 500},
		{"failed", 0, "GET", "/", "", "", `{"errorMessage":"no"}`, true, 200},
		{"passed on", 1, "POST", "/a", "hello", "text/plain", `{"status_code":201}`, false, 200},
		{"passed on without a body", 1, "GET", "/a", "", "", `answer`, false, 200},
		{"asynchronous", 2, "POST", "/a", "hello", "text/plain", `answer`, false, 200},
		{"not to Lambda", 0, "GET", "/plain", "", "", `answer`, false, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			function.mu.Lock()
			function.answer, function.failed = tt.answer, tt.failed
			function.mu.Unlock()
			ours := put("serai", tt.listener, tt.method, tt.path, tt.body, tt.contentType)
			envoys := put("envoy", tt.listener, tt.method, tt.path, tt.body, tt.contentType)
			if ours.Status != tt.status {
				t.Errorf("%+v", ours)
			}
			if diff := cmp.Diff(envoys, ours); diff != "" {
				t.Errorf("(-Envoy +ours):\n%s", diff)
			}
		})
	}
}
