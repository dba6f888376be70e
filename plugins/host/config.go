package host

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/plugins/internal/handshake"
)

const (
	defaultTimeout       = time.Second
	defaultMaxConcurrent = 64
	// maxConcurrent leaves room for pings below the bound in the plugin.
	maxConcurrent = handshake.MaxCalls / 2
	maxTimeout    = time.Minute
)

// Config is one plugin.
//
//	plugin "hmac-auth" {
//	  command  = "/usr/local/lib/serai/hmac-auth"
//	  checksum = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//	}
type Config struct {
	// Name by which uses name it.
	Name string `hcl:"name,label"`
	// Command is the path of the binary.
	Command string `hcl:"command,path"`
	// Args for the binary.
	Args []string `hcl:"args,optional"`
	// Env is its whole environment: nothing of ours is inherited.
	Env map[string]string `hcl:"env,optional"`
	// Checksum of the binary: "sha256:" and what `sha256sum` prints. A file that
	// has another one is never started.
	Checksum string `hcl:"checksum"`
	// Timeout bounds a call, with the time it waits for a place; 0 means 1s.
	Timeout time.Duration `hcl:"timeout,optional"`
	// MaxConcurrent bounds calls at once; 0 means 64. Four times as many may wait
	// for a place.
	MaxConcurrent int `hcl:"max_concurrent,optional"`
	// MaxBody bounds the request bodies that the plugin is given, in bytes; 0
	// means that it gets none.
	MaxBody int `hcl:"max_body,optional,size"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells what is wrong, with the block's position in front. The file is
// looked at when the plugin is started.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, at(c.Pos, "plugin %q: "+format, append([]any{c.Name}, args...)...))
	}
	if c.Name == "" || strings.ContainsFunc(c.Name, notForNames) {
		bad("the name must be of letters, digits, \"-\" and \"_\"")
	}
	if c.Command == "" {
		bad("command is empty; give the path of the plugin's binary")
	}
	if _, err := c.sum(); err != nil {
		bad("%w", err)
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		bad("timeout is %v; want more than 0 and at most %v", c.Timeout, maxTimeout)
	}
	if c.MaxConcurrent < 0 || c.MaxConcurrent > maxConcurrent {
		bad("max_concurrent is %d; want 1 to %d", c.MaxConcurrent, maxConcurrent)
	}
	if c.MaxBody < 0 || c.MaxBody > handshake.MaxBody {
		bad("max_body is %d bytes; want 0 to %d", c.MaxBody, handshake.MaxBody)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			bad("env has %q, which is no name of a variable", name)
		case strings.HasPrefix(name, "PLUGIN_") || name == handshake.Config().MagicCookieKey:
			bad("env has %q, which Serai itself sets for the plugin; take another name", name)
		case strings.ContainsRune(c.Env[name], 0):
			bad("env %q has a NUL in its value", name)
		}
	}
	return errors.Join(errs...)
}

// sum is the pinned checksum in bytes.
func (c *Config) sum() ([]byte, error) {
	const remedy = "write \"sha256:\" and what `sha256sum %s` prints"
	if c.Checksum == "" {
		return nil, fmt.Errorf("checksum is missing; "+remedy, c.Command)
	}
	digits, ok := strings.CutPrefix(c.Checksum, "sha256:")
	sum, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("checksum is %q; "+remedy, c.Checksum, c.Command)
	}
	return sum, nil
}

func (c *Config) timeout() time.Duration { return cmp.Or(c.Timeout, defaultTimeout) }
func (c *Config) maxConcurrent() int     { return cmp.Or(c.MaxConcurrent, defaultMaxConcurrent) }

// equal tells whether a process of c serves d just as well.
func (c *Config) equal(d *Config) bool {
	return c.Name == d.Name && c.Command == d.Command && slices.Equal(c.Args, d.Args) && maps.Equal(c.Env, d.Env) &&
		strings.EqualFold(c.Checksum, d.Checksum) && c.timeout() == d.timeout() &&
		c.maxConcurrent() == d.maxConcurrent() && c.MaxBody == d.MaxBody
}

func notForNames(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// at makes an error that begins with its position, if there is one.
func at(pos, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if pos != "" {
		err = fmt.Errorf("%s: %w", pos, err)
	}
	return err
}
