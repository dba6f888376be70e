package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// visit does one of the things that a client does with a service that behaves well.
func visit(ctx context.Context, random *rand.Rand, client *http.Client, url string) (string, error) {
	switch random.IntN(11) {
	case 0, 1, 2:
		return "get", visitGet(ctx, client, url+"/x/a")
	case 3, 4:
		return "echo", visitEcho(ctx, random, client, url+"/echo", false)
	case 5:
		return "slow writer", visitEcho(ctx, random, client, url+"/echo", true)
	case 6:
		mode := []string{"sized", "chunked", "trailer"}[random.IntN(3)]
		return "download", visitBody(ctx, random, client, url+"/body/"+mode, 0)
	case 7:
		return "slow reader", visitBody(ctx, random, client, url+"/body/chunked", 2*time.Millisecond)
	case 8:
		return "leave before the answer", leaveSlow(ctx, random, client, url+"/slow/1s")
	case 9:
		return "leave in the middle of an answer", leaveBody(ctx, random, client, url+"/body/sized")
	default:
		return "leave in the middle of a request", leaveEcho(ctx, random, client, url+"/echo")
	}
}

// open sends a request with acme's key, and wants 200.
func open(ctx context.Context, client *http.Client, method, url string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Api-Key", acmeKey)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	text, _ := io.ReadAll(resp.Body)
	drop(resp.Body)
	return nil, &statusError{resp.StatusCode, string(text)}
}

// statusError is an answer with another status than 200.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %.200s", e.status, e.text) }

func visitGet(ctx context.Context, client *http.Client, url string) error {
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.HasPrefix(string(text), "api-") && string(text) != "site-1" {
		err = fmt.Errorf("%w: %.100q", errMirror, text)
	}
	return err
}

// visitEcho posts a body, with a length or without, and wants it back.
func visitEcho(ctx context.Context, random *rand.Rand, client *http.Client, url string, slow bool) error {
	data := random256(random, random.IntN(1<<uint(random.IntN(19)))) //nolint:gosec // small
	var body io.Reader = bytes.NewReader(data)
	if slow {
		body = &slowReader{reader: body, pause: time.Millisecond, most: 1 + len(data)/20}
	} else if random.IntN(2) == 0 {
		body = io.MultiReader(body)
	}
	resp, err := open(ctx, client, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	back, err := io.ReadAll(resp.Body)
	if err == nil && (!bytes.Equal(back, data) || resp.Header.Get("X-Sha256") != sum(data)) {
		err = fmt.Errorf("%w: %d bytes, %d", errMirror, len(data), len(back))
	}
	return err
}

// visitBody reads a body of /body/ to its end, within the time that a drain gives.
func visitBody(ctx context.Context, random *rand.Rand, client *http.Client, url string, pause time.Duration) error {
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	var from io.Reader = resp.Body
	if pause > 0 {
		from = &slowReader{reader: from, pause: pause, most: 8<<10 + random.IntN(56<<10)}
	}
	total, err := pattern(from, bodySize)
	if err == nil && total != bodySize {
		err = fmt.Errorf("%w: %d bytes came", io.ErrUnexpectedEOF, total)
	}
	return err
}

// leaveSlow asks what takes long, and leaves.
func leaveSlow(ctx context.Context, random *rand.Rand, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(200))*time.Millisecond)
	defer cancel()
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	case err != nil:
		return err
	}
	defer resp.Body.Close()
	return errAnswered
}

// leaveBody reads a part of a body, which must be right, and leaves.
func leaveBody(ctx context.Context, random *rand.Rand, client *http.Client, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	_, err = pattern(resp.Body, random.IntN(bodySize))
	return err
}

// leaveEcho sends a part of a body and leaves; an answer is right only if it says that something was wrong.
func leaveEcho(ctx context.Context, random *rand.Rand, client *http.Client, url string) error {
	broken := &slowReader{reader: bytes.NewReader(random256(random, random.IntN(64<<10))), most: 8 << 10, end: errNotYet}
	resp, err := open(ctx, client, http.MethodPost, url, broken)
	if err != nil {
		return nil // that is what is wanted
	}
	defer resp.Body.Close()
	return errAnswered
}

// suffer asks a service that breaks off: its answers must be errors, or break off here, too.
func suffer(ctx context.Context, random *rand.Rand, client *http.Client, url string) (string, error) {
	when := []string{"before", "middle", "early"}[random.IntN(3)]
	method, body := http.MethodGet, []byte(nil)
	if random.IntN(2) == 0 || when == "early" {
		method, body = http.MethodPost, random256(random, random.IntN(256<<10))
	}
	resp, err := open(ctx, client, method, url+"/reset/"+when, bytes.NewReader(body))
	what := method + " that is reset " + when
	status := (*statusError)(nil)
	switch {
	case errors.As(err, &status) && status.status >= http.StatusBadGateway:
		return what, nil
	case errors.As(err, &status):
		return what, err
	case err != nil:
		// With its body under way a client may see the end of the connection first.
		if method == http.MethodGet {
			return what, err
		}
		return what, nil
	}
	defer drop(resp.Body)
	switch total, err := pattern(resp.Body, bodySize); {
	case errors.Is(err, errMirror):
		return what, err
	case err == nil:
		return what, fmt.Errorf("%w: %d bytes", errAnswered, total)
	}
	return what, nil
}
