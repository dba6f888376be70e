package lua

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1"   // may be asked for by its name
	_ "crypto/sha256" // as above
	_ "crypto/sha512" // as above
	"crypto/x509"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// luaImportKey is importPublicKey(der, length).
func (r *run) luaImportKey(l *lua.LState) int {
	der := []byte(l.CheckString(2))
	if n := l.OptInt(3, len(der)); n >= 0 && n < len(der) {
		der = der[:n]
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		key = nil // a signature by it is never valid
	}
	l.Push(r.vm.wrap("publicKey", nil, key))
	return 1
}

// luaVerify is verifySignature(hash, key, signature, length, data, length): whether
// it is valid, and why not.
func luaVerify(_ *run, l *lua.LState) int {
	fail := func(why string) int {
		l.Push(lua.LFalse)
		l.Push(lua.LString(why))
		return 2
	}
	hashes := map[string]crypto.Hash{
		"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
	}
	name := strings.ToLower(l.CheckString(2))
	hash, ok := hashes[name]
	if !ok {
		return fail(name + " is not supported.")
	}
	ud, ok := l.Get(3).(*lua.LUserData)
	if !ok {
		l.ArgError(3, "public key expected")
	}
	key, ok := ud.Value.(*object)
	if !ok || key.kind != "publicKey" {
		l.ArgError(3, "public key expected")
	}
	if key.value == nil {
		return fail("Failed to initialize digest verify.")
	}
	signature, data := cut(l, 4), cut(l, 6)
	h := hash.New()
	h.Write(data)
	valid := false
	switch k := key.value.(type) {
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(k, hash, h.Sum(nil), signature) == nil
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(k, h.Sum(nil), signature)
	case ed25519.PublicKey:
		valid = ed25519.Verify(k, data, signature)
	}
	if !valid {
		return fail("Failed to verify digest. Error code: 0")
	}
	l.Push(lua.LTrue)
	l.Push(lua.LString(""))
	return 2
}

// cut is string argument n, as long as argument n+1 says.
func cut(l *lua.LState, n int) []byte {
	s := l.CheckString(n)
	if length := l.OptInt(n+1, len(s)); length >= 0 && length < len(s) {
		s = s[:length]
	}
	return []byte(s)
}
