package mesh

// NameKind is a kind of name that a certificate may have besides its subject.
type NameKind uint8

// Kinds of subject alternative names (xDS: SubjectAltNameMatcher.SanType).
const (
	NameURI NameKind = iota
	NameDNS
	NameEmail
	NameIP
)

// PeerName accepts a peer whose certificate has a name of that kind which matches
// (xDS: SubjectAltNameMatcher). IP addresses are compared as text.
type PeerName struct {
	Kind  NameKind
	Value StringMatch
}

// Pins accept a peer by its certificate itself. It is enough if one is right.
type Pins struct {
	// Certificates are the SHA-256 of certificates, in lower-case hexadecimal; Keys
	// those of their SubjectPublicKeyInfo, in base64.
	Certificates, Keys []string
}

// IsZero tells whether there are none.
func (p *Pins) IsZero() bool { return len(p.Certificates)+len(p.Keys) == 0 }
