// Package cert gives listeners their certificates.
package cert

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often files are looked at for a change.
const lookEvery = 5 * time.Second

// File is a certificate in PEM files, which are read again when they change. If
// what they then hold is broken, the last good certificate stays. It is safe for
// concurrent use.
type File struct {
	// set by Open
	certificate, key string
	log              *slog.Logger
	now              func() time.Time

	current atomic.Pointer[tls.Certificate]
	looked  atomic.Int64 // when the files were last looked at, Unix nanoseconds

	mu   sync.Mutex // guards:
	seen stamp
}

// stamp tells versions of the two files apart.
type stamp struct {
	certificate, key         time.Time
	certificateSize, keySize int64
}

// Open reads the files of a certificate, with its intermediates, and its key.
// now may be nil, which means time.Now.
func Open(certificate, key string, now func() time.Time, log *slog.Logger) (*File, error) {
	if now == nil {
		now = time.Now
	}
	f := &File{certificate: certificate, key: key, log: log, now: now}
	seen, err := f.look()
	if err != nil {
		return nil, err
	}
	loaded, err := f.load()
	if err != nil {
		return nil, err
	}
	f.seen = seen
	f.current.Store(loaded)
	f.looked.Store(now().UnixNano())
	return f, nil
}

// Certificate is what is shown now. Every few seconds it looks for changed files.
func (f *File) Certificate() *tls.Certificate {
	last, now := f.looked.Load(), f.now().UnixNano()
	if now-last >= int64(lookEvery) && f.looked.CompareAndSwap(last, now) {
		f.reload()
	}
	return f.current.Load()
}

// Leaf is the certificate that is shown now.
func (f *File) Leaf() *x509.Certificate { return f.current.Load().Leaf }

// reload reads the files if they have changed.
func (f *File) reload() {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.look()
	if err == nil && seen == f.seen {
		return
	}
	var loaded *tls.Certificate
	if err == nil {
		loaded, err = f.load()
	}
	if err != nil {
		f.log.Error("certificate not read again, keeping the last one", "err", err)
		return
	}
	f.seen = seen
	f.current.Store(loaded)
	f.log.Info("certificate read again", "file", f.certificate, "expires", loaded.Leaf.NotAfter)
}

func (f *File) look() (stamp, error) {
	certificate, err := stat(f.certificate)
	if err != nil {
		return stamp{}, err
	}
	key, err := stat(f.key)
	if err != nil {
		return stamp{}, err
	}
	return stamp{certificate.ModTime(), key.ModTime(), certificate.Size(), key.Size()}, nil
}

func stat(name string) (fs.FileInfo, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return info, nil
}

func (f *File) load() (*tls.Certificate, error) {
	loaded, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.certificate, f.key, err)
	}
	return &loaded, nil
}
