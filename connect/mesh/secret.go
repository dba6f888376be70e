package mesh

// Data is text of a configuration that may stand elsewhere (xDS:
// config.core.v3.DataSource). At most one of File and Env is set; without either
// it is Inline, which may be empty.
type Data struct {
	Inline string
	// File is a path, Env the name of an environment variable.
	File, Env string
}

// IsInline tells whether the text is at hand.
func (d Data) IsInline() bool { return d.File == "" && d.Env == "" }

// Name tells people where the text stands.
func (d Data) Name() string {
	switch {
	case d.File != "":
		return "file " + d.File
	case d.Env != "":
		return "environment variable " + d.Env
	default:
		return "inline"
	}
}

// SecretKind says who knows a secret by its name.
type SecretKind uint8

// Kinds of source of a secret (xDS: SdsSecretConfig.sds_config).
const (
	// SecretStatic: it stands in the bootstrap file.
	SecretStatic SecretKind = iota
	// SecretADS: it comes on the stream of all else.
	SecretADS
	// SecretServer: a server of the user's own is asked for it.
	SecretServer
)

// SecretSource is where a secret comes from. It is comparable.
type SecretSource struct {
	Kind SecretKind
	// Cluster leads to the server of SecretServer; Authority is what it is called,
	// "" means Cluster. Delta asks it by the incremental protocol.
	Cluster, Authority string
	Delta              bool
}

// SecretRef names a secret (xDS: SdsSecretConfig). It is comparable.
type SecretRef struct {
	Name   string
	Source SecretSource
}

// String tells people which secret is meant.
func (r SecretRef) String() string {
	switch r.Source.Kind {
	case SecretServer:
		return "secret " + r.Name + " of cluster " + r.Source.Cluster
	case SecretStatic:
		return "static secret " + r.Name
	default:
		return "secret " + r.Name
	}
}
