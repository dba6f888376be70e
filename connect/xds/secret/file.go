package secret

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// pollEvery is how often files are looked at, racy for how long after it was
	// written a file is read anew whatever its time says: clocks of file systems
	// are coarse.
	pollEvery = time.Second
	racy      = 2 * time.Second
	// writing is how long files that do not belong together may still be those of
	// somebody who is at it.
	writing = 5 * time.Second
	// maxFile bounds a file.
	maxFile = 4 << 20
)

// stamp is what tells a file from the same one later on.
type stamp struct {
	info os.FileInfo
	read time.Time
}

// fresh tells whether the file at path is surely the one that was read.
func (s stamp) fresh(path string) bool {
	if path == "" {
		return true
	}
	info, err := os.Stat(path)
	if err != nil || s.info == nil {
		return false
	}
	return os.SameFile(info, s.info) && info.Size() == s.info.Size() && info.ModTime().Equal(s.info.ModTime()) &&
		s.read.Sub(info.ModTime()) > racy
}

// files are the paths of k, "" for none.
func (k key) files() [2]string {
	if k.pair {
		return [2]string{k.chain.File, k.key.File}
	}
	return [2]string{k.text.File}
}

// load reads what k refers to, and takes it if it is good and new. It tells whether
// something changed for who asks. Callers hold the lock.
func (s *Store) load(k key, it *item, now time.Time) bool {
	before := it.version
	if !k.pair {
		text, err := s.text(k.text, &it.stamps[0], now)
		if err != nil {
			s.broken(k, it, err, now, 0)
		} else {
			s.renew(k, it, !it.good || text != it.text, func() { it.text = text })
		}
		return it.version != before
	}
	leaf, err := s.pair(k, it, now)
	if err != nil {
		s.broken(k, it, err, now, writing)
	} else {
		s.renew(k, it, !it.good || leaf != it.leaf, func() { it.leaf = leaf })
	}
	return it.version != before
}

// pair reads a certificate and its key.
func (s *Store) pair(k key, it *item, now time.Time) (mesh.Leaf, error) {
	chain, err := s.text(k.chain, &it.stamps[0], now)
	if err != nil {
		return mesh.Leaf{}, fmt.Errorf("certificate: %w", err)
	}
	private, err := s.text(k.key, &it.stamps[1], now)
	if err != nil {
		return mesh.Leaf{}, fmt.Errorf("private key: %w", err)
	}
	if _, err := tls.X509KeyPair([]byte(chain), []byte(private)); err != nil {
		return mesh.Leaf{}, err
	}
	return mesh.Leaf{CertificatePEM: chain, KeyPEM: private}, nil
}

// text reads what d says and remembers a file's stamp.
func (s *Store) text(d mesh.Data, mark *stamp, now time.Time) (string, error) {
	switch {
	case d.Env != "":
		text, ok := s.config.Env(d.Env)
		if !ok || text == "" {
			return "", fmt.Errorf("environment variable %s is not set", d.Env)
		}
		return text, nil
	case d.File == "" && d.Inline == "":
		return "", errors.New("empty")
	case d.File == "":
		return d.Inline, nil
	}
	*mark = stamp{}
	// Before it is opened: that of a pipe would wait for who writes to it.
	if info, err := os.Stat(d.File); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", d.File)
	}
	file, err := os.Open(d.File)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", d.File)
	case info.Size() > maxFile:
		return "", fmt.Errorf("%s has more than %d bytes", d.File, maxFile)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return "", err
	}
	if len(data) == 0 {
		return "", fmt.Errorf("%s is empty", d.File)
	}
	*mark = stamp{info: info, read: now}
	return string(data), nil
}

// poll looks at all files.
func (s *Store) poll(now time.Time) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, it := range s.items {
		paths := k.files()
		if k.named || paths == [2]string{} {
			continue
		}
		if it.err == nil && it.stamps[0].fresh(paths[0]) && it.stamps[1].fresh(paths[1]) {
			continue
		}
		changed = s.load(k, it, now) || changed
	}
	return changed
}

// hasFiles tells whether there is a file to look at.
func (s *Store) hasFiles() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.items {
		if !k.named && k.files() != [2]string{} {
			return true
		}
	}
	return false
}
