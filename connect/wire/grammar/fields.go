package grammar

import "strings"

// Length returns the Content-Length in s, -1 if it is none: digits alone, and no
// more than an int64 holds.
func Length(s string) int64 {
	if s == "" || len(s) > 18 {
		return -1
	}
	var n int64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// NextToken cuts the next element off a comma-separated list.
func NextToken(list string) (token, rest string) {
	token, rest, _ = strings.Cut(list, ",")
	return strings.Trim(token, " \t"), rest
}

// HasToken tells whether the comma-separated list has token in it, in any case.
func HasToken(list, token string) bool {
	for list != "" {
		var next string
		if next, list = NextToken(list); strings.EqualFold(next, token) {
			return true
		}
	}
	return false
}

// Own tells whether the field is the connection's own, which a codec writes
// itself, whatever is in a header.
func Own(name string) bool {
	switch name {
	case "connection", "content-length", "transfer-encoding", "keep-alive", "proxy-connection", "upgrade", "host",
		"http2-settings":
		return true
	}
	return false
}

// MayAnnounce tells whether value may stand in the field Trailer: it must not name what
// says how the message is framed (RFC 9110 section 6.5.1).
func MayAnnounce(value string) bool {
	return !HasToken(value, "transfer-encoding") && !HasToken(value, "content-length") && !HasToken(value, "trailer")
}

// Trailer says what becomes of a field in a trailer section (RFC 9110 section
// 6.5.1). What says how a message is framed or routed makes it bad; what speaks
// of the connection, of authentication or of the content's form is not kept.
func Trailer(name string) (keep, bad bool) {
	switch name {
	case "transfer-encoding", "content-length", "host":
		return false, true
	case "connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer", "expect", "http2-settings",
		"authorization", "proxy-authorization", "cookie", "set-cookie", "forwarded", "via", "max-forwards",
		"cache-control", "content-type", "content-encoding", "content-range", "x-real-ip":
		return false, false
	}
	return !strings.HasPrefix(name, "x-forwarded-"), false
}
