package jwt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// visit is one request on its way through the filter.
type visit struct {
	x    *wire.Exchange
	req  *wire.Request
	now  time.Time
	told []telling
}

// telling is metadata to be set.
type telling struct {
	key   string
	value map[string]any
}

// requirement is one condition; nil is success.
type requirement interface {
	check(v *visit) error
}

// maxDepth of requirements within requirements.
const maxDepth = 32

func (f *filter) compileRequirement(in *mesh.JWTRequirement, depth int) (requirement, error) {
	if depth > maxDepth {
		return nil, errors.New("requirements are nested too deeply")
	}
	switch {
	case in.Refusal != "":
		return nil, errors.New(in.Refusal)
	case in.Provider != "":
		p := f.providers[in.Provider]
		if p == nil {
			return nil, fmt.Errorf("provider %q is not known", in.Provider)
		}
		r := &ofProvider{filter: f, provider: p, audiences: p.audiences}
		if len(in.Audiences) > 0 {
			r.audiences = audiences(in.Audiences)
		}
		return r, nil
	case len(in.Any) > 0:
		return f.compileAny(in.Any, depth)
	case len(in.All) > 0:
		all := allOf{}
		for i := range in.All {
			r, err := f.compileRequirement(&in.All[i], depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
		return all, nil
	case in.AllowMissing, in.AllowFailed:
		return f.allowing(in.AllowFailed), nil
	default:
		return allOf{}, nil
	}
}

func (f *filter) compileAny(list []mesh.JWTRequirement, depth int) (requirement, error) {
	a := &anyOf{}
	for i := range list {
		switch {
		case list[i].AllowFailed:
			a.allowFailed = true
			continue
		case list[i].AllowMissing:
			a.allowMissing = true
			continue
		}
		r, err := f.compileRequirement(&list[i], depth+1)
		if err != nil {
			return nil, err
		}
		a.list = append(a.list, r)
	}
	if len(a.list) == 0 {
		return f.allowing(a.allowFailed), nil
	}
	return a, nil
}

// allowing looks for tokens of all providers.
func (f *filter) allowing(failed bool) requirement {
	var all []*mesh.JWTProvider
	for _, name := range slices.Sorted(maps.Keys(f.providers)) {
		all = append(all, f.providers[name].JWTProvider)
	}
	return &lenient{filter: f, places: places(all...), failed: failed}
}

// allOf must all be fulfilled.
type allOf []requirement

func (all allOf) check(v *visit) error {
	for _, r := range all {
		if err := r.check(v); err != nil {
			return err
		}
	}
	return nil
}

// anyOf is fulfilled if one is. Of several problems the worst is told.
type anyOf struct {
	list                      []requirement
	allowMissing, allowFailed bool
}

func (a *anyOf) check(v *visit) error {
	var worst error = errMissing
	for _, r := range a.list {
		err := r.check(v)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errMissing) && !errors.Is(err, errUnknownIssuer) || errors.Is(worst, errMissing) {
			worst = err
		}
	}
	if a.allowFailed || a.allowMissing && errors.Is(worst, errMissing) {
		return nil
	}
	return worst
}

// ofProvider asks for a token of one provider. If there are several, all must be
// good, since who is behind us might look at another than we did.
type ofProvider struct {
	filter    *filter
	provider  *provider
	audiences []string
}

func (r *ofProvider) check(v *visit) error {
	err := r.verify(v)
	if errors.Is(err, errMissing) {
		r.filter.tellAlone(v, err)
	} else {
		r.provider.tell(v, err)
	}
	return err
}

func (r *ofProvider) verify(v *visit) error {
	r.provider.sanitize(&v.req.Header)
	tokens := extract(v.req, r.provider.places)
	if len(tokens) == 0 {
		return errMissing
	}
	for _, one := range slices.Backward(tokens) {
		if err := r.filter.verify(v, one, r.provider, r.audiences); err != nil {
			return err
		}
	}
	return nil
}

// lenient verifies the tokens of all providers, and is content with none; if
// failed, also with bad ones.
type lenient struct {
	filter *filter
	places []*place
	failed bool
}

func (r *lenient) check(v *visit) error {
	for _, p := range r.filter.providers {
		p.sanitize(&v.req.Header)
	}
	var last error
	tokens := extract(v.req, r.places)
	if len(tokens) == 0 {
		r.filter.tellAlone(v, errMissing)
	}
	for _, one := range slices.Backward(tokens) {
		last = r.filter.verifyAny(v, one)
	}
	if r.failed {
		return nil
	}
	return last
}
