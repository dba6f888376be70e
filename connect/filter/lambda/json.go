package lambda

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// event is a request as the function is told of it.
type event struct {
	RawPath string            `json:"raw_path"`
	Method  string            `json:"method"`
	Headers map[string]string `json:"headers"`
	Query   map[string]string `json:"query_string_parameters"`
	Body    string            `json:"body"`
	Base64  bool              `json:"is_base64_encoded"`
}

// tell is a request in JSON.
func tell(req *wire.Request, body []byte) ([]byte, error) {
	e := event{RawPath: req.Path, Method: req.Method, Headers: map[string]string{}, Query: map[string]string{}}
	for name := range req.Header.All() {
		e.Headers[name] = strings.ToValidUTF8(req.Header.Joined(name), "!")
	}
	if req.ContentLength > 0 {
		e.Headers["content-length"] = fmt.Sprint(req.ContentLength)
	}
	for pair := range strings.SplitSeq(req.Query(), "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		e.Query[key] = value // as it is written, as Envoy has it
	}
	switch {
	case len(body) == 0:
	case textual(req.Header.Get("content-type")) && utf8.Valid(body):
		e.Body = string(body)
	default:
		e.Body, e.Base64 = base64.StdEncoding.EncodeToString(body), true
	}
	out, err := json.Marshal(&e)
	if err != nil {
		return nil, fmt.Errorf("aws_lambda: tell the request: %w", err)
	}
	return out, nil
}

// textual tells whether a body of that content type is text.
func textual(kind string) bool {
	kind, _, _ = strings.Cut(strings.ToLower(kind), ";")
	switch kind = strings.TrimSpace(kind); kind {
	case "application/json", "application/javascript", "application/xml":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}

// answer is what a function answers; names are taken in both spellings.
type answer struct {
	Status  int               `json:"status_code"`
	Status2 int               `json:"statusCode"`
	Headers map[string]string `json:"headers"`
	Cookies []string          `json:"cookies"`
	Body    string            `json:"body"`
	Base64  bool              `json:"is_base64_encoded"`
	Base642 bool              `json:"isBase64Encoded"`
}

// result makes the response that a function's answer tells. What is none is a 500
// without a body.
func (f *filter) result(x *wire.Exchange, resp *wire.Response) (*wire.Response, error) {
	data, err := wire.ReadAll(resp.Body, maxPayload)
	resp.Body.Close()
	if err != nil && !errors.Is(err, wire.ErrTooLarge) {
		return nil, err
	}
	if err == nil {
		err = apply(resp, data)
	}
	if err != nil {
		f.failed.Add(1)
		x.Flag, x.Err = wire.FlagUpstreamProtocol, fmt.Errorf("aws_lambda: the function's answer: %w", err)
		resp.Status, resp.Body, resp.ContentLength = http.StatusInternalServerError, nil, 0
	}
	return resp, nil
}

func apply(resp *wire.Response, data []byte) error {
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return err
	}
	body := []byte(a.Body)
	if a.Base64 || a.Base642 {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			return err
		}
	}
	status := max(a.Status, a.Status2)
	if status == 0 {
		status = http.StatusOK
	}
	if status < http.StatusOK || status > 599 {
		return fmt.Errorf("status %d", status)
	}
	resp.Status = status
	for name, value := range a.Headers {
		name, value = strings.ToLower(name), strings.Trim(value, " \t")
		if strings.HasPrefix(name, ":") || grammar.Own(name) {
			continue
		}
		if err := wire.CheckField(name, value); err != nil {
			return err
		}
		resp.Header.Set(name, value)
	}
	for _, cookie := range a.Cookies {
		cookie = strings.Trim(cookie, " \t")
		if err := wire.CheckField("set-cookie", cookie); err != nil {
			return err
		}
		resp.Header.Add("set-cookie", cookie)
	}
	resp.Body, resp.ContentLength = nil, int64(len(body))
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		resp.ContentLength = 0
	case len(body) > 0:
		resp.Body = wire.NewBytes(body)
	}
	return nil
}
