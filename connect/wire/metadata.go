package wire

// Metadata is what filters have found out about a request, for those behind
// them, access logs and traces (Envoy's dynamic metadata). Values are string,
// float64, bool, nil, []any and map[string]any, as encoding/json gives them, and
// die with the exchange as the strings of a head do. The zero Metadata is empty,
// ready for use, and costs nothing. It belongs to the goroutine that serves the
// exchange.
type Metadata struct {
	// Few are set of a request, so that looking through all is the quickest.
	entries []entry
}

// entry is one key with its value.
type entry struct {
	namespace, key string
	value          any
}

// NewMetadata is what a control plane says, by namespace and key; nil of nothing. It
// does not change, and is nobody's who serves an exchange.
func NewMetadata(namespaces map[string]map[string]any) *Metadata {
	var m Metadata
	for namespace, fields := range namespaces {
		for key, value := range fields {
			m.Set(namespace, key, value)
		}
	}
	if len(m.entries) == 0 {
		return nil
	}
	return &m
}

// Set puts value under key in a filter's namespace, in place of what was there.
func (m *Metadata) Set(namespace, key string, value any) {
	for i := range m.entries {
		if e := &m.entries[i]; e.key == key && e.namespace == namespace {
			e.value = value
			return
		}
	}
	m.entries = append(m.entries, entry{namespace, key, value})
}

// Lookup returns what stands in a namespace under path: its first step is a key,
// each further one a key of the map found so far. Nothing stands under an empty
// path, nor in a nil Metadata.
func (m *Metadata) Lookup(namespace string, path []string) (value any, ok bool) {
	if m == nil || len(path) == 0 {
		return nil, false
	}
	for i := range m.entries {
		if e := &m.entries[i]; e.key == path[0] && e.namespace == namespace {
			return descend(e.value, path[1:])
		}
	}
	return nil, false
}

func descend(value any, path []string) (any, bool) {
	for _, step := range path {
		fields, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = fields[step]; !ok {
			return nil, false
		}
	}
	return value, true
}

// Namespace returns all of a namespace, nil if nothing is in it. It makes a map,
// which is for who logs.
func (m *Metadata) Namespace(namespace string) map[string]any {
	if m == nil {
		return nil
	}
	var all map[string]any
	for i := range m.entries {
		if e := &m.entries[i]; e.namespace == namespace {
			if all == nil {
				all = make(map[string]any)
			}
			all[e.key] = e.value
		}
	}
	return all
}

// Reset empties the metadata and keeps its memory, but no value.
func (m *Metadata) Reset() {
	clear(m.entries)
	m.entries = m.entries[:0]
}
