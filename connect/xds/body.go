package xds

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"io"
	"slices"
)

// body is the bytes of a resource as it came, which a config dump shows and the
// state file keeps. Nobody needs them in between, and those of a type are nearly
// alike: a thousand clusters carry the same certificates. So they are kept packed,
// each with what another one of its update has in common with it left out.
type body struct {
	sum  [sha256.Size]byte
	size int
	// packed is deflated with the dictionary like; nil like says that it is not.
	packed, like []byte
}

// packLevel is the fastest that looks into a dictionary: level 1 does not.
const packLevel = 2

// maxLike is how much of a dictionary deflate can look back to.
const maxLike = 32 << 10

// is tells whether these are the bytes.
func (b *body) is(text []byte) bool {
	return b.size == len(text) && (b.size > 0 || b.packed != nil) && b.sum == sha256.Sum256(text)
}

// bytes are the bytes; nil if there are none.
func (b *body) bytes() []byte {
	if b.like == nil {
		return b.packed
	}
	text := make([]byte, b.size)
	if _, err := io.ReadFull(flate.NewReaderDict(bytes.NewReader(b.packed), b.like), text); err != nil {
		return nil // it was packed by us
	}
	return text
}

// packer packs the bodies of one update. Its zero value is ready for use, and is
// dropped with the update: a writer is large.
type packer struct {
	like []byte
	out  bytes.Buffer
	w    *flate.Writer
}

// pack keeps text, or a copy. The first one of an update is kept as it is, and what
// the others are compared with.
func (p *packer) pack(text []byte) body {
	b := body{sum: sha256.Sum256(text), size: len(text), packed: text}
	if p.like == nil {
		p.like = text[:min(len(text), maxLike)]
		return b
	}
	p.out.Reset()
	if p.w == nil {
		var err error
		if p.w, err = flate.NewWriterDict(&p.out, packLevel, p.like); err != nil {
			return b // there is no such error
		}
	} else {
		p.w.Reset(&p.out)
	}
	if _, err := p.w.Write(text); err != nil || p.w.Close() != nil || p.out.Len() > len(text)*3/4 {
		return b // it is not worth the while
	}
	b.packed, b.like = slices.Clone(p.out.Bytes()), p.like
	return b
}
