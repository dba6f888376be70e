package upstream

import "encoding/binary"

// murmur is MurmurHash2 of 64 bits with the seed that C++'s std::hash has (in libstdc++),
// which rings of other proxies are made by (Appleby, "MurmurHash64A", in the public
// domain).
func murmur(key []byte) uint64 {
	const (
		seed  = 0xc70f6907
		m     = 0xc6a4a7935bd1e995
		shift = 47
	)
	h := seed ^ uint64(len(key))*m
	for ; len(key) >= 8; key = key[8:] {
		k := binary.LittleEndian.Uint64(key) * m
		k ^= k >> shift
		h = (h ^ k*m) * m
	}
	if len(key) > 0 {
		var rest [8]byte
		copy(rest[:], key)
		h = (h ^ binary.LittleEndian.Uint64(rest[:])) * m
	}
	h ^= h >> shift
	h *= m
	return h ^ h>>shift
}
