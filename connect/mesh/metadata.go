package mesh

// Metadata is what a control plane says of a cluster or an endpoint, for who logs: by
// namespace and key, with values as encoding/json gives them
// (xDS: core.v3.Metadata.filter_metadata).
type Metadata map[string]map[string]any

// HeaderToMetadata is the header_to_metadata filter.
type HeaderToMetadata struct {
	// Request and Response are the rules for their headers, in order.
	Request, Response []MetadataRule
}

// MetadataRule makes metadata of one header field or cookie.
type MetadataRule struct {
	// Header, lower-case, or Cookie is what is looked for.
	Header, Cookie string
	// Present is set if it is there, Missing if it is not; nil sets nothing.
	Present, Missing *MetadataValue
	// Remove drops the header field.
	Remove bool
}

// MetadataValue is what is set, and where.
type MetadataValue struct {
	Namespace, Key string
	// Value is set as it stands; if it is "", what was found is. Nothing is set of
	// an empty value.
	Value string
	// Rewrite, if not nil, changes what was found.
	Rewrite *RegexRewrite
	// Type is what the value is read as, after it was decoded from base64 if
	// Base64. What cannot be read is not set.
	Type   MetadataType
	Base64 bool
}

// MetadataType is what the text of a value stands for.
type MetadataType uint8

// Types of values.
const (
	MetadataString MetadataType = iota
	MetadataNumber
	MetadataProtobuf // a serialized google.protobuf.Value
)

// MetadataMatch looks up a value that an earlier filter has put under
// Filter and Path (xDS: type.matcher.v3.MetadataMatcher).
type MetadataMatch struct {
	Filter string
	Path   []string
	Value  ValueMatch
	Invert bool
}

// ValueMatch matches a value of metadata (xDS: type.matcher.v3.ValueMatcher).
type ValueMatch struct {
	Kind ValueKind
	// String for ValueString, Bool for ValueBool and ValuePresent.
	String StringMatch
	Bool   bool
	// Low and High for ValueRange: Low is in the range, High is not. Low alone for
	// ValueNumber.
	Low, High float64
	// Any, for ValueOr, is what one of must match; for ValueList one of the list's
	// values must match Any[0].
	Any []ValueMatch
}

// ValueKind is how a ValueMatch matches.
type ValueKind uint8

// Kinds of matches.
const (
	ValueString ValueKind = iota
	ValueNull
	ValueNumber
	ValueRange
	ValueBool
	ValuePresent
	ValueList
	ValueOr
)
