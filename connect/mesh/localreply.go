package mesh

// LocalReply says how answers look that the proxy makes itself (xDS:
// http_connection_manager.v3.LocalReplyConfig).
type LocalReply struct {
	// Mappers are tried in order: the first whose filter matches counts.
	Mappers []ReplyMapper
	// Body writes the body unless a mapper says otherwise; nil leaves it as it is.
	Body *ReplyBody
}

// ReplyMapper changes those answers that Filter matches.
type ReplyMapper struct {
	Filter *LogFilter
	// Status replaces the status; 0 does not.
	Status int
	// Text replaces the body, if HasText, before Body writes it.
	Text    string
	HasText bool
	// Body writes the body; nil is that of the LocalReply.
	Body *ReplyBody
	// Set are fields to be added.
	Set []HeaderValue
}

// ReplyBody writes a body with Envoy's command operators, Text or the members of an
// object of JSON.
type ReplyBody struct {
	Text      string
	JSON      map[string]any
	OmitEmpty bool
	// Type is the content type.
	Type string
}
