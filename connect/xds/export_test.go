package xds

import (
	"fmt"
	"io"
	"time"

	"github.com/serai-net/serai/connect/xds/ads"
)

// ReadState decodes a state file, and tells how many resources it has.
func ReadState(in io.Reader) (int, error) {
	_, updates, err := decodeState(in)
	n := 0
	for _, u := range updates {
		n += len(u.Resources)
	}
	return n, err
}

// WriteState writes a file of n resources.
func WriteState(path string, n int) error {
	return writeState(path, stateHead{Format: stateFormat, Saved: time.Now(), Resources: n}, func(yield func(string, ads.Resource) bool) {
		for i := range n {
			if !yield("type", ads.Resource{Name: fmt.Sprint(i), Body: make([]byte, 100)}) {
				return
			}
		}
	})
}

// Differences says which fields of two nouns differ.
func Differences[T any](before, now *T) []string { return differences(before, now) }
