package jwt

// problem is what is wrong with a token, in Envoy's words, which the client gets.
type problem string

// Error returns the words.
func (p problem) Error() string { return string(p) }

// Problems. A token that is missing and one of an unknown issuer are less to
// blame than others when several requirements fail.
const (
	errMissing        problem = "Jwt is missing"
	errFormat         problem = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
	errHeaderBase64   problem = "Jwt header is an invalid Base64url encoded"
	errHeaderJSON     problem = "Jwt header is an invalid JSON"
	errHeaderAlg      problem = "Jwt header [alg] field is required and must be a string"
	errAlg            problem = "Jwt header [alg] is not supported"
	errHeaderKid      problem = "Jwt header [kid] field is not a string"
	errPayloadBase64  problem = "Jwt payload is an invalid Base64url encoded"
	errPayloadJSON    problem = "Jwt payload is an invalid JSON"
	errIss            problem = "Jwt payload [iss] field is not a string"
	errSub            problem = "Jwt payload [sub] field is not a string"
	errIat            problem = "Jwt payload [iat] field is not an integer"
	errNbf            problem = "Jwt payload [nbf] field is not an integer"
	errExp            problem = "Jwt payload [exp] field is not an integer"
	errIatRange       problem = "Jwt payload [iat] field is not a positive 64 bit integer"
	errNbfRange       problem = "Jwt payload [nbf] field is not a positive 64 bit integer"
	errExpRange       problem = "Jwt payload [exp] field is not a positive 64 bit integer"
	errJti            problem = "Jwt payload [jti] field is not a string"
	errAud            problem = "Jwt payload [aud] field is not a string or string list"
	errSignature64    problem = "Jwt signature is an invalid Base64url encoded"
	errUnknownIssuer  problem = "Jwt issuer is not configured"
	errNotYet         problem = "Jwt not yet valid"
	errExpired        problem = "Jwt is expired"
	errAudience       problem = "Audiences in Jwt are not allowed"
	errVerification   problem = "Jwt verification fails"
	errFetch          problem = "Jwks remote fetch is failed"
	errNoKeys         problem = "Jwks doesn't have any valid public key"
	errNoMatchingKeys problem = "Jwks doesn't have key to match kid or alg from Jwt"
)
