package jwt

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Namespace is where metadata of tokens stands.
const Namespace = "envoy.filters.http.jwt_authn"

// defaultSkew is what is forgiven of clocks.
const defaultSkew = time.Minute

// provider is a compiled [mesh.JWTProvider].
type provider struct {
	*mesh.JWTProvider
	name      string
	audiences []string // as they are compared
	subjects  *match.StringMatcher
	skew      time.Duration
	places    []*place
	local     *keySet // nil if there is none
	remote    *Remote // nil if there is none
	verified  *cache
}

func (f *filter) compileProvider(name string, in *mesh.JWTProvider) (*provider, error) {
	p := &provider{
		JWTProvider: in, name: name, audiences: audiences(in.Audiences), skew: in.ClockSkew,
		places: places(in), verified: newCache(in.CacheSize, in.CacheLongest),
	}
	or(&p.skew, defaultSkew)
	if in.Subjects != nil {
		var err error
		if p.subjects, err = match.String(*in.Subjects); err != nil {
			return nil, fmt.Errorf("subjects: %w", err)
		}
	}
	switch {
	case in.Keys != "":
		var err error
		if p.local, err = parseKeys([]byte(in.Keys)); err != nil {
			return nil, err
		}
	case in.Remote != nil:
		p.remote = f.remote(*in.Remote)
	}
	return p, nil
}

// audiences are compared without scheme and last slash, as Envoy does.
func audiences(list []string) []string {
	var out []string
	for _, one := range list {
		one = strings.TrimPrefix(strings.TrimPrefix(one, "http://"), "https://")
		out = append(out, strings.TrimSuffix(one, "/"))
	}
	return out
}

// now returns the keys at hand, and whether they are good without a fetch.
func (p *provider) now(now time.Time) (*keySet, bool) {
	if p.remote != nil {
		return p.remote.now(now)
	}
	return p.local, p.local != nil
}

// check looks at what a token says, in Envoy's order. wanted are the audiences, of
// which none is any.
func (p *provider) check(t *token, now time.Time, wanted []string) error {
	if err := t.checkTime(now, p.skew); err != nil {
		return err
	}
	if p.subjects != nil && !p.subjects.Match(t.subject) {
		return errVerification
	}
	if p.RequireExpiration || p.MaxLifetime > 0 {
		if t.expires.IsZero() || p.MaxLifetime > 0 && t.expires.Sub(now) >= p.MaxLifetime {
			return errVerification
		}
	}
	if len(wanted) > 0 && !slices.ContainsFunc(audiences(t.audiences), func(a string) bool { return slices.Contains(wanted, a) }) {
		return errAudience
	}
	return nil
}

// accept tells the request and who comes after of a token that is good.
func (p *provider) accept(v *visit, t *token, at *place) {
	req, added := v.req, false
	if p.PayloadHeader != "" {
		payload := t.payload64
		if p.PadPayload {
			payload += strings.Repeat("=", (4-len(payload)%4)%4)
		}
		req.Header.Add(p.PayloadHeader, payload)
	}
	for _, claim := range p.ClaimHeaders {
		if value, ok := t.claim(claim.Claim); ok {
			if text := claimText(value); text != "" {
				req.Header.Add(claim.Header, text)
				added = true
			}
		}
	}
	if !p.Forward {
		at.remove(req)
	}
	if p.HeaderMetadata != "" {
		v.told = append(v.told, telling{p.HeaderMetadata, t.header})
	}
	if p.PayloadMetadata != "" {
		v.told = append(v.told, telling{p.PayloadMetadata, p.normal(t.payload)})
		added = true
	}
	if added && p.ClearRoute {
		v.x.Pinned = nil
	}
}

// tell tells who comes after what is wrong with a token, if that is asked for.
func (p *provider) tell(v *visit, err error) {
	if err != nil && p.FailedMetadata != "" {
		v.told = append(v.told, telling{p.FailedMetadata, map[string]any{"code": float64(codeOf(err)), "message": err.Error()}})
	}
}

// normal makes lists of claims that are delimited by spaces.
func (p *provider) normal(payload map[string]any) map[string]any {
	if len(p.SpaceDelimited) == 0 {
		return payload
	}
	out := make(map[string]any, len(payload))
	for key, value := range payload {
		if text, ok := value.(string); ok && slices.Contains(p.SpaceDelimited, key) {
			list := []any{}
			for one := range strings.SplitSeq(text, " ") {
				if one != "" {
					list = append(list, one)
				}
			}
			value = list
		}
		out[key] = value
	}
	return out
}

// claimText is a claim as the value of a header field; "" if it cannot be one.
func claimText(value any) string {
	switch value := value.(type) {
	case string:
		if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return "" // it might end the field, and begin another
		}
		return strings.TrimSpace(value)
	case bool:
		return strconv.FormatBool(value)
	case float64:
		if value >= 0 && value < math.MaxUint64 && value == math.Trunc(value) {
			return strconv.FormatUint(uint64(value), 10)
		}
		return strconv.FormatFloat(value, 'f', 6, 64)
	case nil:
		return ""
	default:
		text, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return base64.StdEncoding.EncodeToString(text)
	}
}

// sanitize drops what only we may say.
func (p *provider) sanitize(header *wire.Header) {
	if p.PayloadHeader != "" {
		header.Del(p.PayloadHeader)
	}
	for _, claim := range p.ClaimHeaders {
		header.Del(claim.Header)
	}
}
