package admin

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// logged writes a line for each request, in Envoy's default format.
func logged(next http.Handler, to io.Writer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		seen := &written{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		or := func(value string) string {
			if value == "" {
				return "-"
			}
			return value
		}
		// A line that cannot be written is lost: whoever asks is answered all the same.
		fmt.Fprintf(to, "[%s] \"%s %s %s\" %d - %d %d %d - %q %q %q %q \"-\"\n",
			begin.UTC().Format("2006-01-02T15:04:05.000Z"), r.Method, r.URL.RequestURI(), r.Proto, seen.status, max(0, r.ContentLength), seen.bytes,
			time.Since(begin).Milliseconds(), or(r.Header.Get("X-Forwarded-For")), or(r.UserAgent()), or(r.Header.Get("X-Request-Id")), or(r.Host))
	})
}

// written notes what is answered.
type written struct {
	http.ResponseWriter
	status, bytes int
}

// Unwrap lets a stream set deadlines and flush.
func (w *written) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *written) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *written) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += n
	return n, err
}
