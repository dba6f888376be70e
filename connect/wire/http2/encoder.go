package http2

import (
	"hash/maphash"
	"math/bits"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/wire/grammar"
)

const (
	tableSize    = 4096 // RFC 9113 section 6.5.2; we use no more, whatever is allowed
	tableEntries = 64
	// maxIndexed bounds a field that is put into the table.
	maxIndexed = 1024
	// hotFor is how many heads an entry counts as in use for.
	hotFor = 256
)

// encoder writes header blocks (RFC 7541). A field is put into the dynamic table
// when it is seen for the second time, so that what differs in every head (an ID,
// a path) drives nothing out and costs no copy. Strings are written as they are:
// Huffman codes save bytes, not time. It is not safe for concurrent use.
//
// hpack.Encoder is not used: it keeps the strings that it is given, which here
// die with their exchange, and puts every field into its table.
type encoder struct {
	seed maphash.Seed
	// hashes, names and entries are rings of the same shape: the entry that came
	// last is at (next-1) mod tableEntries, count are in use.
	hashes  [tableEntries]uint64 // of name and value
	entries [tableEntries]entry
	next    uint32
	count   uint32
	size    uint32
	limit   uint32 // what the other side allows, at most tableSize
	// announce says that limit has changed, smallest the least it was since.
	announce bool
	smallest uint32
	heads    uint32
	digits   [20]byte
	// seen remembers hashes of fields that were written lately, two in a slot.
	seen [128][2]uint32
}

type entry struct {
	name, value string
	used        uint32 // the head that used it last
}

func newEncoder() *encoder {
	return &encoder{seed: maphash.MakeSeed(), limit: tableSize, smallest: tableSize}
}

// setLimit is SETTINGS_HEADER_TABLE_SIZE of the other side.
func (e *encoder) setLimit(limit uint32) {
	limit = min(limit, tableSize)
	if limit == e.limit {
		return
	}
	e.limit, e.announce = limit, true
	e.smallest = min(e.smallest, limit)
	e.evict(0)
}

// begin starts a block.
func (e *encoder) begin(b []byte) []byte {
	e.heads++
	if !e.announce {
		return b
	}
	if e.smallest < e.limit {
		b = appendInt(b, 5, 0x20, uint64(e.smallest))
	}
	e.announce, e.smallest = false, e.limit
	return appendInt(b, 5, 0x20, uint64(e.limit))
}

// field writes one field.
func (e *encoder) field(b []byte, name, value string) []byte {
	index, whole := staticIndex(name, value)
	if whole {
		return append(b, 0x80|index)
	}
	if secret(name) {
		return appendLiteral(b, 4, 0x10, index, name, value)
	}
	size := uint32(len(name) + len(value) + 32)
	if size > maxIndexed {
		return appendLiteral(b, 4, 0, index, name, value)
	}
	hash := maphash.String(e.seed, name) ^ bits.RotateLeft64(maphash.String(e.seed, value), 17)
	if at := e.find(hash, name, value); at != 0 {
		return appendInt(b, 7, 0x80, uint64(at))
	}
	slot, mark := &e.seen[hash%128], uint32(hash>>32)|1
	if slot[0] != mark && slot[1] != mark {
		slot[0], slot[1] = mark, slot[0]
		return appendLiteral(b, 4, 0, index, name, value)
	}
	if !e.add(hash, name, value, size) {
		return appendLiteral(b, 4, 0, index, name, value)
	}
	return appendLiteral(b, 6, 0x40, index, name, value)
}

// find returns the index of a field in the dynamic table, 0 if it is not there.
func (e *encoder) find(hash uint64, name, value string) uint32 {
	for i := uint32(1); i <= e.count; i++ {
		at := (e.next - i) % tableEntries
		if e.hashes[at] == hash && e.entries[at].name == name && e.entries[at].value == value {
			e.entries[at].used = e.heads
			return staticEntries + i
		}
	}
	return 0
}

// add puts a copy of a field into the table. It does not if that would drive out
// what is still in use.
func (e *encoder) add(hash uint64, name, value string, size uint32) bool {
	if size > e.limit {
		return false
	}
	full := e.size+size > e.limit || e.count == tableEntries
	if full && e.heads-e.entries[(e.next-e.count)%tableEntries].used < hotFor && e.heads%hotFor != 0 {
		return false
	}
	e.evict(size)
	if e.count == tableEntries {
		e.drop()
	}
	at := e.next % tableEntries
	e.hashes[at] = hash
	e.entries[at] = entry{strings.Clone(name), strings.Clone(value), e.heads}
	e.next++
	e.count++
	e.size += size
	return true
}

// evict makes room for size bytes.
func (e *encoder) evict(size uint32) {
	for e.count > 0 && e.size+size > e.limit {
		e.drop()
	}
}

// drop forgets the oldest entry.
func (e *encoder) drop() {
	at := (e.next - e.count) % tableEntries
	e.size -= uint32(len(e.entries[at].name) + len(e.entries[at].value) + 32)
	e.entries[at] = entry{}
	e.hashes[at] = 0
	e.count--
}

// secret tells whether a field is never to be put into a table, here or further
// on: those who share a connection could find it out by trying (RFC 7541
// section 7.1.3).
func secret(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key":
		return true
	}
	return false
}

// appendInt writes an integer with a prefix of n bits (RFC 7541 section 5.1).
func appendInt(b []byte, n uint, first byte, i uint64) []byte {
	most := uint64(1)<<n - 1
	if i < most {
		return append(b, first|byte(i))
	}
	b = append(b, first|byte(most))
	for i -= most; i >= 0x80; i >>= 7 {
		b = append(b, 0x80|byte(i))
	}
	return append(b, byte(i))
}

// appendLiteral writes a field by the index of its name, or by its name if that
// is 0.
func appendLiteral(b []byte, n uint, first, index byte, name, value string) []byte {
	b = appendInt(b, n, first, uint64(index))
	if index == 0 {
		b = appendString(b, name)
	}
	return appendString(b, value)
}

func appendString(b []byte, s string) []byte {
	return append(appendInt(b, 7, 0, uint64(len(s))), s...)
}

// decimal is n in digits, until the next call.
func (e *encoder) decimal(n int64) string {
	return grammar.View(strconv.AppendInt(e.digits[:0], n, 10))
}
