package plugins

// Field is one field of a header. Names are in lower case.
type Field struct{ Name, Value string }

// Request is the head of a request as the edge would forward it now. A plugin
// may keep and change it; changes to it have no effect by themselves.
type Request struct {
	// ID is the value of x-request-id.
	ID string
	// Method, Scheme ("http", "https") and Authority (host, with its port if it
	// has one) as the client sent them; Path has the query, and is in normal
	// form.
	Method, Scheme, Authority, Path string
	// Header in the order of the wire; a name may stand there several times.
	Header []Field
	// Body is whole, and there only if the configuration gives the plugin bodies
	// (max_body). A request without a body has none, too.
	Body []byte
	// Client is the IP address of the connection's other end.
	Client string
	// Consumer is who calls, "" while that is not known; API and Route are the
	// names of the configuration.
	Consumer, API, Route string
}

// Get returns the first value of a field, "" if there is none. The name is in
// lower case.
func (r *Request) Get(name string) string { return get(r.Header, name) }

// Response is the head of a response, as the upstream sent it and transforms
// before have changed it.
type Response struct {
	// Status is 200 to 599.
	Status int
	// Header in the order of the wire.
	Header []Field
}

// Get returns the first value of a field, "" if there is none. The name is in
// lower case.
func (r *Response) Get(name string) string { return get(r.Header, name) }

func get(header []Field, name string) string {
	for i := range header {
		if header[i].Name == name {
			return header[i].Value
		}
	}
	return ""
}

// Identity is who calls.
type Identity struct {
	// Consumer is the name of a consumer of the configuration; one that is not
	// there is denied.
	Consumer string
	// Remove and then Set change the header that the upstream gets, for example
	// to keep credentials from it.
	Set    []Field
	Remove []string
}

// HeaderChange changes a header: first it removes, then it sets (which replaces
// all fields of that name), then it adds.
type HeaderChange struct {
	Remove []string
	Set    []Field
	Add    []Field
}

// RequestChange is what becomes of a request. The zero value changes nothing.
type RequestChange struct {
	HeaderChange
	// Path with query; "" keeps it. The route stays the one that was chosen.
	Path string
}

// ResponseChange is what becomes of a response's head. The zero value changes
// nothing.
type ResponseChange struct {
	HeaderChange
	// Status from 200 to 599, without those that have no body (204, 205, 304); 0
	// keeps it.
	Status int
}
