package listen

import (
	"sync/atomic"

	"github.com/serai-net/serai/connect/stats"
)

// sight is what a listener filter can find.
type sight int

const (
	tlsFound sight = iota
	tlsNotFound
	helloTooLarge
	sniFound
	sniNotFound
	alpnFound
	alpnNotFound
	http10Found
	http11Found
	http2Found
	httpNotFound
	httpReadError
	restored
	timedOut
	sights // how many there are
)

// inspected counts what listener filters have found.
type inspected [sights]atomic.Int64

// saw counts a sight of a listener, and of all of them: Envoy tells inspectors of
// several listeners not apart.
func (l *listener) saw(what sight) {
	l.inspected[what].Add(1)
	l.set.inspected[what].Add(1)
}

// Inspected yields what inspectors have found on all listeners, those that are gone
// included, by Envoy's names. It is a [stats.Source].
func (s *Set) Inspected(yield func(stats.Stat) bool) {
	for what, name := range map[sight]string{
		tlsFound: "tls_inspector.tls_found", tlsNotFound: "tls_inspector.tls_not_found", helloTooLarge: "tls_inspector.client_hello_too_large",
		sniFound: "tls_inspector.sni_found", sniNotFound: "tls_inspector.sni_not_found",
		alpnFound: "tls_inspector.alpn_found", alpnNotFound: "tls_inspector.alpn_not_found",
		http10Found: "http_inspector.http10_found", http11Found: "http_inspector.http11_found", http2Found: "http_inspector.http2_found",
		httpNotFound: "http_inspector.http_not_found", httpReadError: "http_inspector.read_error",
	} {
		if !yield(stats.Stat{Name: name, Kind: stats.KindCounter, Value: s.inspected[what].Load()}) {
			return
		}
	}
}
