package lua

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

// defineInfo makes the objects that tell of exchange and connection.
func (v *vm) defineInfo() {
	text := func(get func(r *run) string) method {
		return func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			l.Push(owned(get(r)))
			return 1
		}
	}
	object := func(kind string) method {
		return func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			l.Push(v.wrap(kind, r, r))
			return 1
		}
	}
	ssl := func(l *lua.LState, self any) int {
		r, _ := self.(*run)
		if !r.x.Peer.TLS {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(v.wrap("ssl", r, r))
		return 1
	}
	none := func(l *lua.LState, _ any) int { l.Push(lua.LNil); return 1 }
	local := text(func(r *run) string { return address(r.x.Peer.Local) })
	remote := text(func(r *run) string { return address(r.x.Peer.Addr) })
	info := map[string]method{
		"protocol":                      text(protocol),
		"routeName":                     text(func(r *run) string { return r.x.Route }),
		"downstreamLocalAddress":        local,
		"downstreamDirectLocalAddress":  local,
		"downstreamDirectRemoteAddress": remote,
		"downstreamRemoteAddress":       remote,
		"requestedServerName":           text(func(r *run) string { return r.x.Peer.ServerName }),
		"downstreamSslConnection":       ssl,
		"dynamicMetadata":               object("dynamicMetadata"),
		"dynamicTypedMetadata":          none,
		"virtualClusterName":            none,
	}
	v.kind("streamInfo", info, nil)
	v.kind("connectionStreamInfo", map[string]method{"dynamicMetadata": object("dynamicMetadata"), "dynamicTypedMetadata": none}, nil)
	v.kind("connection", map[string]method{"ssl": ssl}, nil)
	v.kind("metadata", map[string]method{"get": none}, map[string]method{"__pairs": func(l *lua.LState, _ any) int {
		l.Push(l.NewFunction(func(l *lua.LState) int { l.Push(lua.LNil); return 1 }))
		l.Push(lua.LNil)
		l.Push(lua.LNil)
		return 3
	}})
	v.defineMetadata()
	v.defineTLS()
}

func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

func protocol(r *run) string {
	switch {
	case r.req.Proto == 2:
		return "HTTP/2"
	case r.req.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

func (v *vm) defineMetadata() {
	v.kind("dynamicMetadata", map[string]method{
		"get": func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			all := r.x.Metadata.Namespace(l.CheckString(2))
			if all == nil {
				l.Push(lua.LNil)
				return 1
			}
			l.Push(toLua(l, all))
			return 1
		},
		"set": func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			namespace, key := strings.Clone(l.CheckString(2)), strings.Clone(l.CheckString(3))
			value, err := fromLua(l, l.Get(4), 0, new(int))
			if err != nil {
				l.RaiseError("%s", err.Error())
			}
			r.x.Metadata.Set(namespace, key, value)
			return 0
		},
	}, nil)
}

// toLua is a value of metadata as one of a script.
func toLua(l *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case string:
		return owned(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	case []any:
		t := l.NewTable()
		for _, item := range v {
			t.Append(toLua(l, item))
		}
		return t
	case map[string]any:
		t := l.NewTable()
		for key, item := range v {
			t.RawSetString(strings.Clone(key), toLua(l, item))
		}
		return t
	}
	return lua.LNil
}

// maxDepth bounds tables in tables, which may hold themselves.
const maxDepth = 16

// fromLua is a value of a script as one of metadata. count is of all values so far; their
// strings are counted as what the script makes.
func fromLua(l *lua.LState, value lua.LValue, depth int, count *int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("tables are nested more than %d deep", maxDepth)
	}
	if *count++; *count > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	switch v := value.(type) {
	case lua.LString:
		take(l, len(v))
		return strings.Clone(string(v)), nil
	case lua.LNumber:
		return float64(v), nil
	case lua.LBool:
		return bool(v), nil
	case *lua.LNilType:
		return nil, nil //nolint:nilnil // a value as others
	case *lua.LTable:
		return tableOf(l, v, depth, count)
	}
	return nil, fmt.Errorf("unexpected type %q in dynamicMetadata", value.Type().String())
}

func tableOf(l *lua.LState, t *lua.LTable, depth int, count *int) (any, error) {
	var failed error
	if n := t.Len(); n > 0 {
		list := make([]any, 0, min(n, maxValues))
		for i := 1; i <= n; i++ {
			item, err := fromLua(l, t.RawGetInt(i), depth+1, count)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	}
	all := map[string]any{}
	t.ForEach(func(key, value lua.LValue) {
		if failed != nil {
			return
		}
		item, err := fromLua(l, value, depth+1, count)
		if err != nil {
			failed = err
			return
		}
		all[strings.Clone(lua.LVAsString(key))] = item
	})
	return all, failed
}

// defineTLS tells of the client's certificate.
func (v *vm) defineTLS() {
	text := func(get func(p *wire.Peer) string) method {
		return func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			if r.x.Peer.Certificate == nil {
				l.Push(lua.LString(""))
				return 1
			}
			l.Push(owned(get(r.x.Peer)))
			return 1
		}
	}
	list := func(get func(p *wire.Peer) []string) method {
		return func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			t := l.NewTable()
			if r.x.Peer.Certificate != nil {
				for _, s := range get(r.x.Peer) {
					t.Append(owned(s))
				}
			}
			l.Push(t)
			return 1
		}
	}
	presented := func(l *lua.LState, self any) int {
		r, _ := self.(*run)
		l.Push(lua.LBool(r.x.Peer.Certificate != nil))
		return 1
	}
	seconds := func(get func(p *wire.Peer) int64) method {
		return func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			if r.x.Peer.Certificate == nil {
				return 0
			}
			l.Push(lua.LNumber(get(r.x.Peer)))
			return 1
		}
	}
	v.kind("ssl", map[string]method{
		"peerCertificatePresented": presented,
		"peerCertificateValidated": presented, // a connection with one that is not valid does not come so far
		"sha256PeerCertificateDigest": text(func(p *wire.Peer) string {
			sum := sha256.Sum256(p.Certificate.Raw)
			return hex.EncodeToString(sum[:])
		}),
		"serialNumberPeerCertificate": text(func(p *wire.Peer) string { return p.Certificate.SerialNumber.Text(16) }),
		"issuerPeerCertificate":       text(func(p *wire.Peer) string { return p.Certificate.Issuer.String() }),
		"subjectPeerCertificate":      text(func(p *wire.Peer) string { return p.Certificate.Subject.String() }),
		"uriSanPeerCertificate": list(func(p *wire.Peer) []string {
			var all []string
			for _, u := range p.Certificate.URIs {
				all = append(all, u.String())
			}
			return all
		}),
		"dnsSansPeerCertificate":    list(func(p *wire.Peer) []string { return slices.Clone(p.Certificate.DNSNames) }),
		"validFromPeerCertificate":  seconds(func(p *wire.Peer) int64 { return p.Certificate.NotBefore.Unix() }),
		"expirationPeerCertificate": seconds(func(p *wire.Peer) int64 { return p.Certificate.NotAfter.Unix() }),
	}, nil)
}
