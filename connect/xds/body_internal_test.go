package xds

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
)

func TestBodiesArePacked(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 3000)
	_, _ = rand.Read(noise) // never fails
	var p packer
	total := 0
	for i := range 100 {
		text := append(fmt.Appendf(nil, "cluster %d", i), noise...)
		b := p.pack(text)
		if !bytes.Equal(b.bytes(), text) || !b.is(text) || b.is(text[1:]) {
			t.Fatalf("body %d is not what it was", i)
		}
		total += len(b.packed)
	}
	if total > 3100+100*200 {
		t.Errorf("100 like bodies of 3 KB take %d bytes", total)
	}
	for _, text := range [][]byte{{}, []byte("x"), noise, bytes.Repeat(noise, 100)} {
		b := p.pack(text)
		if !bytes.Equal(b.bytes(), text) || !b.is(text) {
			t.Errorf("%d bytes are not what they were", len(text))
		}
	}
	if none := (&body{}); none.is(nil) || none.bytes() != nil {
		t.Error("no body is one")
	}
}
