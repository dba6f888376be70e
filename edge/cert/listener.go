package cert

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mtls"
)

// Pair are the files of one certificate.
type Pair struct {
	// Certificate and Key are PEM files, as for [Open].
	Certificate, Key string
}

// Config is how a listener does TLS.
type Config struct {
	// Pairs are chosen by server name; the first is the default. There is one.
	Pairs []Pair
	// MinVersion and MaxVersion as in [tls.Config]; 0 means 1.2 and the newest.
	MinVersion, MaxVersion uint16
	// CipherSuites of TLS 1.2; empty means those that Go holds safe.
	CipherSuites []uint16
	// ALPN in the order of our preference; empty means h2 and http/1.1.
	ALPN []string
	// ClientCA is a PEM file with those who sign client certificates; "" means
	// that none is asked for. RequireClient refuses clients without one.
	ClientCA      string
	RequireClient bool
}

// Listener is TLS of one listener. Its files are read again when they change;
// connections and sessions live on, but sessions of clients not over a change of
// who signs them. It is safe for concurrent use.
type Listener struct {
	// set by OpenListener
	config  Config
	files   []*File
	now     func() time.Time
	log     *slog.Logger
	tickets mtls.Tickets

	current atomic.Pointer[tls.Config]
	looked  atomic.Int64 // when files were last looked at, Unix nanoseconds

	mu    sync.Mutex // guards:
	shown []*tls.Certificate
	trust string // what is in ClientCA, and the same as a pool
	roots *x509.CertPool
}

// OpenListener reads all files. now may be nil, which means time.Now.
func OpenListener(c Config, now func() time.Time, log *slog.Logger) (*Listener, error) {
	if now == nil {
		now = time.Now
	}
	l := &Listener{config: c, now: now, log: log}
	for _, pair := range c.Pairs {
		file, err := Open(pair.Certificate, pair.Key, now, log)
		if err != nil {
			return nil, err
		}
		l.files = append(l.files, file)
	}
	if len(l.files) == 0 {
		return nil, errors.New("no certificate")
	}
	if err := l.compile(); err != nil {
		return nil, err
	}
	l.looked.Store(now().UnixNano())
	return l, nil
}

// Config is for the next handshake; it must not be changed.
func (l *Listener) Config() *tls.Config {
	last, now := l.looked.Load(), l.now()
	if now.UnixNano()-last >= int64(lookEvery) && l.looked.CompareAndSwap(last, now.UnixNano()) {
		for _, file := range l.files {
			file.Certificate()
		}
		if err := l.compile(); err != nil {
			l.log.Error("client_ca_file not read again, keeping the last one", "err", err)
		}
		l.tickets.Turn(now)
	}
	return l.current.Load()
}

// Leaves are the certificates that are shown now.
func (l *Listener) Leaves() []*x509.Certificate {
	var all []*x509.Certificate
	for _, file := range l.files {
		all = append(all, file.Leaf())
	}
	return all
}

// compile makes a new configuration if something has changed. A ClientCA that cannot
// be read keeps nobody's certificate from being renewed: the last one counts.
func (l *Listener) compile() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	trust, roots, broken := l.readTrust()
	if broken != nil {
		if l.shown == nil {
			return broken
		}
		trust, roots = l.trust, l.roots
	}
	changed := l.shown == nil || trust != l.trust
	shown := make([]*tls.Certificate, len(l.files))
	for i, file := range l.files {
		shown[i] = file.current.Load()
		changed = changed || shown[i] != l.shown[i]
	}
	if !changed {
		return broken
	}
	l.shown, l.trust, l.roots = shown, trust, roots
	next := &tls.Config{
		MinVersion: max(l.config.MinVersion, tls.VersionTLS12), MaxVersion: l.config.MaxVersion,
		CipherSuites: l.config.CipherSuites, NextProtos: l.config.ALPN,
		GetCertificate: mtls.NewChoice(shown).Get,
	}
	if len(next.NextProtos) == 0 {
		next.NextProtos = []string{"h2", "http/1.1"}
	}
	if slices.Contains(next.NextProtos, "http/1.1") {
		// For clients that offer it alone, such as curl --http1.0.
		next.NextProtos = append(slices.Clip(next.NextProtos), "http/1.0")
	}
	if roots != nil {
		l.ask(next, roots)
	}
	l.tickets.Use(next, trust, l.now())
	l.current.Store(next)
	return broken
}

// readTrust reads who signs clients: its digest and pool, nil if nobody is asked.
func (l *Listener) readTrust() (string, *x509.CertPool, error) {
	if l.config.ClientCA == "" {
		return "", nil, nil
	}
	pem, err := os.ReadFile(l.config.ClientCA)
	if err != nil {
		return "", nil, fmt.Errorf("client_ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return "", nil, fmt.Errorf("client_ca_file %s: no certificate in it", l.config.ClientCA)
	}
	digest := sha256.Sum256(pem)
	return string(digest[:]), roots, nil
}

// ask asks clients for certificates. A session is resumed only while they are valid.
func (l *Listener) ask(config *tls.Config, roots *x509.CertPool) {
	config.ClientCAs = roots
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if l.config.RequireClient {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if !state.DidResume || len(state.PeerCertificates) == 0 {
			return nil // crypto/tls has just verified it
		}
		intermediates := x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			intermediates.AddCert(certificate)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return fmt.Errorf("the client's certificate: %w", err)
		}
		return nil
	}
}
