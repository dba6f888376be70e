package wire

import (
	"errors"
	"io"
)

// ErrTooLarge says that a body is larger than who reads it takes.
var ErrTooLarge = errors.New("the body is larger than what is taken of it")

// ReadAll reads a body (nil is empty) to its end, up to most bytes.
func ReadAll(body Body, most int) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	data := make([]byte, 0, 512)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := body.Read(data[len(data):cap(data)])
		if data = data[:len(data)+n]; len(data) > most {
			return nil, ErrTooLarge
		}
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
