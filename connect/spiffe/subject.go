package spiffe

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Subject is a certificate's subject as Envoy writes it (RFC 2253 by OpenSSL): the
// last name first, what is special escaped, and bytes that are not ASCII in
// hexadecimal. Package pkix leaves those as they are, and knows fewer names.
func Subject(c *x509.Certificate) string { return distinguished(c.RawSubject, &c.Subject) }

// Issuer is the name of who issued a certificate, written as Subject is.
func Issuer(c *x509.Certificate) string { return distinguished(c.RawIssuer, &c.Issuer) }

func distinguished(der []byte, parsed *pkix.Name) string {
	var names pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return parsed.String() // of a certificate that was made by hand
	}
	var b strings.Builder
	for i, set := range slices.Backward(names) {
		if i < len(names)-1 {
			b.WriteByte(',')
		}
		for j, name := range slices.Backward(set) {
			if j < len(set)-1 {
				b.WriteByte('+')
			}
			writeName(&b, name)
		}
	}
	return b.String()
}

// shortName is OpenSSL's name of an attribute, "" if it has none here.
func shortName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "2.5.4.3":
		return "CN"
	case "2.5.4.4":
		return "SN"
	case "2.5.4.5":
		return "serialNumber"
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "ST"
	case "2.5.4.9":
		return "street"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	case "2.5.4.12":
		return "title"
	case "2.5.4.13":
		return "description"
	case "2.5.4.17":
		return "postalCode"
	case "2.5.4.41":
		return "name"
	case "2.5.4.42":
		return "GN"
	case "2.5.4.43":
		return "initials"
	case "2.5.4.46":
		return "dnQualifier"
	case "1.2.840.113549.1.9.1":
		return "emailAddress"
	case "0.9.2342.19200300.100.1.1":
		return "UID"
	case "0.9.2342.19200300.100.1.25":
		return "DC"
	}
	return ""
}

func writeName(b *strings.Builder, name pkix.AttributeTypeAndValue) {
	text, isText := name.Value.(string)
	short := shortName(name.Type)
	if short == "" || !isText {
		if short == "" {
			short = name.Type.String()
		}
		der, err := asn1.Marshal(name.Value)
		if err != nil {
			der = nil
		}
		b.WriteString(short + "=#" + strings.ToUpper(hex.EncodeToString(der)))
		return
	}
	b.WriteString(short + "=")
	for i := range len(text) {
		c := text[i]
		switch {
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(b, `\%02X`, c)
			continue
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(text)-1):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
}
