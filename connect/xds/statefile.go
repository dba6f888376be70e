package xds

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/xds/ads"
)

// A state file is lines of JSON through gzip, whose checksum tells a torn file: a
// stateHead, then a stateLine for each resource, as the control plane has sent it.
type stateHead struct {
	// Format is stateFormat.
	Format string
	// Proxy, Cluster and Agent say whose it is, and of which Consul.
	Proxy, Cluster, Agent string
	// Saved is when it was written.
	Saved time.Time
	// Resources is how many lines follow.
	Resources int
}

type stateLine struct {
	Type, Name, Version string
	Body                []byte
}

const (
	stateFormat = "serai xds state 1"
	// maxState bounds what is read of a file, unpacked.
	maxState = 1 << 30
	// maxStateName bounds a file's name.
	maxStateName = 200
)

// stateName is the file's name of a proxy: several may share a folder.
func stateName(proxy string) (string, error) {
	name := "xds-" + url.PathEscape(proxy) + ".state"
	if len(name) > maxStateName {
		return "", fmt.Errorf("proxy ID of %d bytes is too long for a file's name", len(proxy))
	}
	return name, nil
}

// openStateDir makes the folder if it is not there. The files in it hold private
// keys, so nobody else may have a way in.
func openStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", dir)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s is open to others (mode %04o), and the private key would be in it: chmod 0700 it", dir, mode)
	}
	return ownedByUs(dir, info)
}

// writeState replaces a file in one step: whoever reads it sees the old one or the
// whole new one, also after a crash.
func writeState(path string, head stateHead, resources func(yield func(typ string, r ads.Resource) bool)) (err error) {
	if err := sweepState(path, head.Saved); err != nil {
		return err
	}
	// Of a name of its own: two of the same proxy may be at it, of which one goes.
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+newSuffix+"*") // of mode 0600
	if err != nil {
		return err
	}
	temporary := file.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(temporary))
		}
	}()
	buffered := bufio.NewWriterSize(file, 64<<10)
	if err := encodeState(buffered, head, resources); err != nil {
		return err
	}
	if err := errors.Join(buffered.Flush(), file.Sync()); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// newSuffix is in the names of files that are being written, left how old those are that
// nobody will finish.
const (
	newSuffix = ".new-"
	left      = 10 * time.Minute
)

// sweepState removes what was left behind by who was killed while it wrote.
func sweepState(path string, now time.Time) error {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), filepath.Base(path)+newSuffix) {
			continue
		}
		if info, err := file.Info(); err == nil && now.Sub(info.ModTime()) > left {
			err = os.Remove(filepath.Join(filepath.Dir(path), file.Name()))
			if !errors.Is(err, os.ErrNotExist) { // the other one may have swept, too
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func encodeState(out io.Writer, head stateHead, resources func(yield func(typ string, r ads.Resource) bool)) error {
	packed, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(packed)
	if err := lines.Encode(&head); err != nil {
		return err
	}
	for typ, r := range resources {
		if err := lines.Encode(&stateLine{Type: typ, Name: r.Name, Version: r.Version, Body: r.Body}); err != nil {
			return err
		}
	}
	return packed.Close()
}

// readState reads a whole file. Nothing of one that is not whole is returned.
func readState(path string) (stateHead, []*ads.Update, error) {
	// Before it is opened: that of a pipe would wait for who writes to it, and a link leads
	// to what others may write.
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return stateHead{}, nil, fmt.Errorf("it is no file (mode %s)", info.Mode())
	}
	file, err := os.Open(path)
	if err != nil {
		return stateHead{}, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return stateHead{}, nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return stateHead{}, nil, fmt.Errorf("it is open to others, or no file (mode %s)", mode)
	}
	if err := ownedByUs(path, info); err != nil {
		return stateHead{}, nil, err
	}
	return decodeState(bufio.NewReader(file))
}

// decodeState reads the head and the resources, one update for each type.
func decodeState(in io.Reader) (stateHead, []*ads.Update, error) {
	var head stateHead
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return head, nil, err
	}
	bounded := &io.LimitedReader{R: unpacked, N: maxState}
	lines := json.NewDecoder(bounded)
	if err := lines.Decode(&head); err != nil {
		return head, nil, err
	}
	if head.Format != stateFormat {
		return head, nil, fmt.Errorf("its format is %q, not %q", head.Format, stateFormat)
	}
	byType := map[string]*ads.Update{}
	var all []*ads.Update
	count := 0
	for ; ; count++ {
		var line stateLine
		err := lines.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return head, nil, err
		}
		update := byType[line.Type]
		if update == nil {
			update = &ads.Update{Type: line.Type}
			byType[line.Type], all = update, append(all, update)
		}
		update.Resources = append(update.Resources, ads.Resource{Name: line.Name, Version: line.Version, Body: line.Body})
	}
	if bounded.N <= 0 || count != head.Resources {
		return head, nil, fmt.Errorf("it has %d resources and not %d", count, head.Resources)
	}
	return head, all, nil
}
