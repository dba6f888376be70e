package dns

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// serial is the time as a serial number (RFC 1912 section 2.2 leaves the choice
// to us).
func serial() uint32 { return uint32(time.Now().Unix()) }

// plainPrefix, in any case, begins the keys of metadata that are given out
// without their key.
const plainPrefix = "rfc1035-"

// texts are the TXT records of a node's metadata, ordered by key.
func (l *lookup) texts(n *catalog.Node, owner string) []dns.RR {
	keys := make([]string, 0, len(n.Meta))
	for key := range n.Meta {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	records := make([]dns.RR, 0, len(keys))
	for _, key := range keys {
		text := n.Meta[key]
		if len(key) < len(plainPrefix) || !strings.EqualFold(key[:len(plainPrefix)], plainPrefix) {
			text = attribute(key, text)
		}
		records = append(records, &dns.TXT{Hdr: l.header(owner, dns.TypeTXT), Txt: strings255(text)})
	}
	return records
}

// attribute writes a pair as RFC 1464 has it: a grave accent quotes =, itself,
// and white space at the ends of the key.
func attribute(key, value string) string {
	middle := strings.Trim(key, " \t")
	at := strings.Index(key, middle)
	quoted := quoteEach(key[:at]) + strings.NewReplacer("`", "``", "=", "`=").Replace(middle) + quoteEach(key[at+len(middle):])
	return quoted + "=" + strings.ReplaceAll(value, "`", "``")
}

func quoteEach(space string) string {
	var b strings.Builder
	for i := range len(space) {
		b.WriteByte('`')
		b.WriteByte(space[i])
	}
	return b.String()
}

// strings255 cuts a text into the strings of a TXT record, at most 255 bytes
// each, as the library has them: a backslash begins an escape.
func strings255(text string) []string {
	if text == "" {
		return []string{""}
	}
	var all []string
	for len(text) > 0 {
		n := min(len(text), 255)
		all = append(all, strings.ReplaceAll(text[:n], `\`, `\\`))
		text = text[n:]
	}
	return all
}
