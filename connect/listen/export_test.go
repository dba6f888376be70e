package listen

// Verdicts of the sniffers.
const (
	NeedMore = needMore
	IsNot    = isNot
	Found    = found
	TooLong  = tooLong
)

// ParseHello is what tls_inspector reads of the beginning of a connection.
func ParseHello(b []byte, most int) (name string, alpn []string, v verdict) {
	h, v := parseHello(b, most)
	return h.serverName, h.alpn, v
}

// SniffHTTP is what http_inspector reads of it.
func SniffHTTP(b []byte) (string, verdict) { return sniffHTTP(b) }
