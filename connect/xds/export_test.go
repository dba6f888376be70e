package xds

import "io"

// ReadState decodes a state file, and tells how many resources it has.
func ReadState(in io.Reader) (int, error) {
	_, updates, err := decodeState(in)
	n := 0
	for _, u := range updates {
		n += len(u.Resources)
	}
	return n, err
}
