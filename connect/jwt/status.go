package jwt

import "errors"

// problem is what is wrong with a token, in Envoy's words, which the client gets.
type problem string

// Error returns the words.
func (p problem) Error() string { return string(p) }

// codeOf is Envoy's number of a problem.
func codeOf(err error) int {
	p, _ := errors.AsType[problem](err)
	switch p {
	case errMissing:
		return 1
	case errNotYet:
		return 2
	case errExpired:
		return 3
	case errFormat:
		return 4
	case errHeaderBase64:
		return 5
	case errHeaderJSON:
		return 6
	case errHeaderAlg:
		return 7
	case errAlg:
		return 8
	case errHeaderKid:
		return 9
	default:
		return codeOfPayload(p)
	}
}

func codeOfPayload(p problem) int {
	switch p {
	case errPayloadBase64:
		return 10
	case errPayloadJSON:
		return 11
	case errIss:
		return 12
	case errSub:
		return 13
	case errIat:
		return 14
	case errIatRange:
		return 15
	case errNbf:
		return 16
	case errNbfRange:
		return 17
	case errExp:
		return 18
	case errExpRange:
		return 19
	case errJti:
		return 20
	case errAud:
		return 21
	default:
		return codeOfKeys(p)
	}
}

func codeOfKeys(p problem) int {
	switch p {
	case errSignature64:
		return 22
	case errUnknownIssuer:
		return 24
	case errAudience:
		return 25
	case errVerification:
		return 26
	case errNoKeys:
		return 31
	case errNoMatchingKeys:
		return 32
	default: // what could not be fetched
		return 40
	}
}

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
