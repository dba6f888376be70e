package http2

// Poison makes b overwrite what is given back, to show who still looks at it.
func (b *Buffers) Poison() { b.poison = true }

// Encoder is the encoder for tests.
type Encoder struct{ e *encoder }

// NewEncoder makes one.
func NewEncoder() Encoder { return Encoder{newEncoder()} }

// SetLimit is the other side's SETTINGS_HEADER_TABLE_SIZE.
func (e Encoder) SetLimit(n uint32) { e.e.setLimit(n) }

// Begin starts a block.
func (e Encoder) Begin(b []byte) []byte { return e.e.begin(b) }

// Field writes a field.
func (e Encoder) Field(b []byte, name, value string) []byte { return e.e.field(b, name, value) }
