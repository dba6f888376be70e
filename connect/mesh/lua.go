package mesh

// Lua is a script that is run on requests and responses (xDS:
// filters.http.lua.v3).
type Lua struct {
	// Code is the script, or File the path where it stands.
	Code, File string
	// StatPrefix tells the counters of several filters apart; may be "".
	StatPrefix string
	// KeepRoute chooses the route before the script changes the request.
	KeepRoute bool
	// Sources are scripts by name, which routes may take instead; Named is that of a
	// route.
	Sources map[string]string
	Named   string
}
