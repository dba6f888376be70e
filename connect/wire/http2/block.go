package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// blockKind says what a header block is the head of.
type blockKind uint8

const (
	blockIgnored blockKind = iota // decoded for the sake of the table only
	blockRequest
	blockResponse
	blockTrailer
)

// block takes the fields of one header block as they are decoded (RFC 9113
// section 8.2 and 8.3). Its strings are of the collector and may be kept.
type block struct {
	kind   blockKind
	header *wire.Header // where regular fields go
	bytes  int          // that are left of the bounds
	fields int
	// problem is what is wrong, the first thing found; "" if nothing is.
	problem breach
	// tooLarge says that bounds were passed; what is beyond was dropped.
	tooLarge breach

	method, scheme, authority, path, protocol, status string
	// has says which pseudo-headers were there, by their bits.
	has     pseudo
	regular bool // a field that is none was there
	host    string
	hosts   int
	expect  bool
	length  int64 // Content-Length, wire.UnknownLength without
	crumbs  int   // how many cookie fields there were
}

type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// forget lets go of the header: an idle connection must not hold its last exchange.
func (k *block) forget() { k.header = nil }

func (k *block) begin(kind blockKind, header *wire.Header, bounds *Bounds) {
	*k = block{kind: kind, header: header, bytes: bounds.MaxHeaderBytes, fields: bounds.MaxHeaders, length: wire.UnknownLength}
	if header != nil {
		header.Reset()
	}
}

// take is called with each field.
func (k *block) take(f hpack.HeaderField) {
	if k.kind == blockIgnored || k.problem != "" || k.tooLarge != "" {
		return
	}
	k.bytes -= int(f.Size())
	if k.bytes < 0 {
		k.tooLarge = errHeadTooLarge
		return
	}
	switch {
	case strings.HasPrefix(f.Name, ":"):
		k.problem = k.pseudo(f.Name, f.Value)
	case !grammar.IsName(f.Name):
		k.problem = errBadName
	case !isValue(f.Value):
		k.problem = errBadValue
	case k.kind == blockTrailer:
		k.problem = k.trailer(f.Name, f.Value)
	default:
		k.regular = true
		k.problem = k.field(f.Name, f.Value)
	}
}

// isValue tells whether v may be a field's value (RFC 9113 section 8.2.1).
func isValue(v string) bool {
	if v == "" {
		return true
	}
	first, last := v[0], v[len(v)-1]
	return first != ' ' && first != '\t' && last != ' ' && last != '\t' && grammar.IsValue(grammar.Bytes(v))
}

// pseudo takes a pseudo-header.
func (k *block) pseudo(name, value string) breach {
	var bit pseudo
	var place *string
	switch name {
	case ":method":
		bit, place = pseudoMethod, &k.method
	case ":scheme":
		bit, place = pseudoScheme, &k.scheme
	case ":authority":
		bit, place = pseudoAuthority, &k.authority
	case ":path":
		bit, place = pseudoPath, &k.path
	case ":protocol":
		bit, place = pseudoProtocol, &k.protocol
	case ":status":
		bit, place = pseudoStatus, &k.status
	default:
		return errBadPseudo
	}
	right := blockRequest
	if bit == pseudoStatus {
		right = blockResponse
	}
	if k.kind != right || k.regular || k.has&bit != 0 {
		return errBadPseudo
	}
	k.has |= bit
	*place = value
	return ""
}

// field takes a regular field of a head.
func (k *block) field(name, value string) breach {
	if k.fields--; k.fields < 0 {
		k.tooLarge = errManyFields
		return ""
	}
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return errConnField
	case "te":
		if value != "trailers" {
			return errBadTE
		}
	case "host":
		k.host = value
		k.hosts++
		return ""
	case "content-length":
		length := grammar.Length(value)
		if length < 0 || k.length >= 0 {
			return errBadLength
		}
		k.length = length
		return ""
	case "http2-settings":
		return ""
	case "expect":
		if k.kind == blockRequest && strings.EqualFold(value, "100-continue") {
			k.expect = true
			return ""
		}
	case "trailer":
		if !grammar.MayAnnounce(value) {
			return errBadTrailer
		}
	case "cookie":
		k.crumbs++
	}
	k.header.Add(name, value)
	return ""
}

// trailer takes a field of a trailer section.
func (k *block) trailer(name, value string) breach {
	if k.fields--; k.fields < 0 {
		return errManyFields
	}
	switch keep, bad := grammar.Trailer(name); {
	case bad:
		return errBadTrailer
	case keep:
		k.header.Add(name, value)
	}
	return ""
}

// request makes a request of what was taken, as far as its head tells.
func (k *block) request(req *wire.Request, ended bool) breach {
	if k.problem != "" {
		return k.problem
	}
	if p := k.checkRequest(); p != "" {
		return p
	}
	req.Method, req.Scheme, req.Authority, req.Path = k.method, k.scheme, k.authority, k.path
	req.Proto, req.Minor, req.Upgrade, req.Body = 2, 0, "", nil
	req.ContentLength, req.ExpectContinue = k.length, k.expect && !ended
	if k.has&pseudoAuthority == 0 {
		req.Authority = k.host
	}
	if k.crumbs > 1 {
		joinCookies(k.header)
	}
	switch {
	case k.protocol != "":
		req.Method, req.Upgrade, req.ContentLength, req.ExpectContinue = "GET", k.protocol, 0, false
	case k.method == "CONNECT":
		req.ContentLength, req.ExpectContinue = 0, false
	case ended && k.length > 0:
		return errTooShort
	case ended:
		req.ContentLength = 0
	}
	return ""
}

// checkRequest looks at pseudo-headers and Host (RFC 9113 section 8.3.1 and 8.5,
// RFC 8441 section 4).
func (k *block) checkRequest() breach {
	connect := k.method == "CONNECT" && k.has&pseudoProtocol == 0
	switch {
	case k.has&pseudoMethod == 0:
		return errMissingPseudo
	case !grammar.IsToken(k.method):
		return errBadMethod
	case connect && (k.has&(pseudoScheme|pseudoPath) != 0 || k.authority == ""):
		return errBadPseudo
	case !connect && k.has&(pseudoScheme|pseudoPath) != pseudoScheme|pseudoPath:
		return errMissingPseudo
	case k.has&pseudoProtocol != 0 && (k.method != "CONNECT" || !grammar.IsToken(k.protocol) || k.authority == ""):
		return errBadPseudo
	case strings.EqualFold(k.protocol, "h2c"):
		return errBadPseudo // behind it nobody could look at requests (and none there is: RFC 9113 section 3.1)
	case !connect && k.scheme != "https" && k.scheme != "http":
		return errBadScheme
	case !connect && !isPath(k.method, k.path):
		return errBadPath
	case !connect && k.has&pseudoAuthority == 0 && k.hosts == 0:
		return errBadHost // nobody is asked for; HTTP/1.1 has to name somebody, too (RFC 9112 section 3.2)
	case k.hosts > 1, !grammar.IsAuthority(k.authority), !grammar.IsAuthority(k.host):
		return errBadHost
	case k.hosts > 0 && k.has&pseudoAuthority != 0 && !strings.EqualFold(k.host, k.authority):
		return errBadHost
	}
	return ""
}

func isPath(method, path string) bool {
	if path == "*" {
		return method == "OPTIONS"
	}
	return path != "" && path[0] == '/' && grammar.IsTarget(path)
}

// joinCookies makes one field of several: only HTTP/2 breaks it into crumbs (RFC
// 9113 section 8.2.3).
func joinCookies(h *wire.Header) {
	var all strings.Builder
	for crumb := range h.Values("cookie") {
		if all.Len() > 0 {
			all.WriteString("; ")
		}
		all.WriteString(crumb)
	}
	h.Set("cookie", all.String())
}

// response returns the status of a response's head.
func (k *block) response() (status int, p breach) {
	switch {
	case k.problem != "":
		return 0, k.problem
	case k.has&pseudoStatus == 0:
		return 0, errMissingPseudo
	case len(k.status) != 3:
		return 0, errBadStatus
	}
	for i := range 3 {
		c := k.status[i]
		if c < '0' || c > '9' {
			return 0, errBadStatus
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status == 101 {
		return 0, errBadStatus
	}
	return status, ""
}
