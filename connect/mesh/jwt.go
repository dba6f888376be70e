package mesh

import "time"

// JWT is the jwt_authn filter: it verifies JSON Web Tokens, lets requests through
// by their rules, and makes metadata of what tokens say.
type JWT struct {
	// Providers by name.
	Providers map[string]*JWTProvider
	// Rules are tried in order; what none matches needs no token.
	Rules []JWTRule
	// Named are requirements by name, which routes may ask for in place of the rules;
	// Requirement is the name in what a route says (a FilterOverride's Filter).
	Named       map[string]*JWTRequirement
	Requirement string
	// BypassPreflight lets CORS preflight requests through.
	BypassPreflight bool
	// Silent answers without saying what is wrong with a token.
	Silent bool
	// StatPrefix stands before the names of what is counted.
	StatPrefix string
}

// JWTRule says what requests that Match must bring; nil means nothing.
type JWTRule struct {
	Match    Match
	Requires *JWTRequirement
}

// JWTRequirement is one condition. Exactly one of Provider, Any, All,
// AllowMissing, AllowFailed and Refusal is set; none is always fulfilled.
type JWTRequirement struct {
	// Provider is the name of who must have issued the token, for one of
	// Audiences if there are any instead of for the provider's own.
	Provider  string
	Audiences []string
	Any, All  []JWTRequirement
	// AllowMissing is fulfilled without a token, AllowFailed whatever comes. Tokens
	// of all providers are verified all the same.
	AllowMissing, AllowFailed bool
	// Refusal says what is not understood: whoever asks for it is refused.
	Refusal string
}

// JWTProvider is who issues tokens, and where they are found.
type JWTProvider struct {
	// Issuer must be the token's own; "" means any.
	Issuer string
	// Audiences, one of which must be the token's; empty means any.
	Audiences []string
	// Subjects must match the token's subject, if not nil.
	Subjects *StringMatch
	// RequireExpiration refuses tokens that do not expire, MaxLifetime, if not 0,
	// also those that live for longer than that from now.
	RequireExpiration bool
	MaxLifetime       time.Duration
	// ClockSkew that is forgiven; 0 means a minute.
	ClockSkew time.Duration
	// Keys is a JWKS, or Remote says where it is fetched. With neither nothing can
	// be verified.
	Keys   string
	Remote *RemoteKeys
	// Headers, Params and Cookies are where a token is looked for; without any it
	// is "authorization: Bearer" and the parameter access_token.
	Headers         []JWTHeader
	Params, Cookies []string
	// Forward leaves the token in the request.
	Forward bool
	// PayloadHeader gets the payload as it came (base64url), with padding if
	// PadPayload; "" for none.
	PayloadHeader string
	PadPayload    bool
	// PayloadMetadata and HeaderMetadata are keys of metadata for what a token
	// says; "" for none.
	PayloadMetadata, HeaderMetadata string
	// FailedMetadata is the key for what is wrong with a token, or that there is none; ""
	// for none.
	FailedMetadata string
	// SpaceDelimited are claims which become lists in metadata.
	SpaceDelimited []string
	// ClaimHeaders get claims.
	ClaimHeaders []ClaimHeader
	// ClearRoute chooses the route anew when a token has given a field or metadata.
	ClearRoute bool
	// CacheSize is how many verified tokens are remembered, CacheLongest how long
	// they may be, in bytes; 0 means 100 and 4096.
	CacheSize, CacheLongest int
}

// RemoteKeys is where a JWKS is fetched. It is comparable: the keys of two equal
// ones are the same.
type RemoteKeys struct {
	// Cluster that is asked for URI.
	Cluster, URI string
	// Timeout of a fetch with all its tries.
	Timeout time.Duration
	// CacheFor is how long keys are good for; 0 means 10 minutes.
	CacheFor time.Duration
	// Retries after the first try, with pauses from PauseBase, which double up to
	// PauseMax.
	Retries             int
	PauseBase, PauseMax time.Duration
	// Ahead fetches before anybody asks, and again before the keys are too old;
	// after a failure in RetryAfter, 0 means 1 second.
	Ahead      bool
	RetryAfter time.Duration
}

// JWTHeader is a field that has a token after Prefix.
type JWTHeader struct{ Name, Prefix string }

// ClaimHeader is a field that gets a claim; steps of Claim are separated by dots.
type ClaimHeader struct{ Header, Claim string }
