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

// found is what was read of files and the like, or why nothing was.
type found struct {
	text   string
	leaf   mesh.Leaf
	stamps [2]stamp
	err    error
}

// look reads what k refers to. The lock is not needed for it: a file system may let who
// asks wait.
func (s *Store) look(k key, now time.Time) (f found) {
	if !k.pair {
		f.text, f.err = s.text(k.text, &f.stamps[0], now)
		return f
	}
	f.leaf, f.err = s.pair(k, &f.stamps, now)
	return f
}

// load takes what was found, if it is good and new. It tells whether something changed
// for who asks. Callers hold the lock.
func (s *Store) load(k key, it *item, f found, now time.Time) bool {
	before := it.version
	it.stamps = f.stamps
	switch {
	case f.err != nil && k.pair:
		s.broken(k, it, f.err, now, writing)
	case f.err != nil:
		s.broken(k, it, f.err, now, 0)
	default:
		s.renew(k, it, !it.good || f.text != it.text || f.leaf != it.leaf, func() { it.text, it.leaf = f.text, f.leaf })
	}
	return it.version != before
}

// pair reads a certificate and its key.
func (s *Store) pair(k key, marks *[2]stamp, now time.Time) (mesh.Leaf, error) {
	chain, err := s.text(k.chain, &marks[0], now)
	if err != nil {
		return mesh.Leaf{}, fmt.Errorf("certificate: %w", err)
	}
	private, err := s.text(k.key, &marks[1], now)
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
	for k, stamps := range s.unsure() {
		if stamps != nil && stamps[0].fresh(k.files()[0]) && stamps[1].fresh(k.files()[1]) {
			continue
		}
		f := s.look(k, now)
		s.mu.Lock()
		if it := s.items[k]; it != nil {
			changed = s.load(k, it, f, now) || changed
		}
		s.mu.Unlock()
	}
	return changed
}

// unsure is all that refers to files, as they were read last; nil for what was not good.
func (s *Store) unsure() map[key]*[2]stamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[key]*[2]stamp{}
	for k, it := range s.items {
		switch {
		case k.named || k.files() == [2]string{}:
		case it.err != nil:
			all[k] = nil
		default:
			stamps := it.stamps
			all[k] = &stamps
		}
	}
	return all
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
