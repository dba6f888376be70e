// Package handshake has what Serai and a plugin must agree on before they talk.
package handshake

import "github.com/hashicorp/go-plugin"

const (
	// Version of the protocol in plugins/internal/pluginpb. It rises when a
	// plugin built before could misunderstand us, or we it.
	Version = 1
	// Service is the name of the one kind of plugin in go-plugin's set.
	Service = "serai"
	// MaxBody bounds the bodies that plugins are given, in bytes.
	MaxBody = 64 << 20
	// MaxHead bounds a message without its body, in bytes: answers, and requests
	// but for bodies.
	MaxHead = 1 << 20
	// MaxCalls bounds the calls that a plugin carries out at once.
	MaxCalls = 1024
)

// Config is the cookie by which a plugin knows that it was started as one. It
// keeps users from starting it by hand, it is no secret.
func Config() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  Version,
		MagicCookieKey:   "SERAI_PLUGIN",
		MagicCookieValue: "c8c5ba0c44d94bc3ff0d2a0b3b3c6a3de5f6a64a7b1d4b55a7f4a5cb9e31f7a1",
	}
}
