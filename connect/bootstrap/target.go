package bootstrap

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// Target is the address to dial for Server. Nomad writes a relative socket path
// that holds where the task's working directory is the allocation's root; for a
// raw_exec task it is looked up under NOMAD_ALLOC_DIR. getenv is os.Getenv or
// its like.
func (c *Config) Target(getenv func(string) string) mesh.Address {
	server := c.Server
	if server.Socket == "" || filepath.IsAbs(server.Socket) {
		return server
	}
	if _, err := os.Stat(server.Socket); err == nil {
		return server
	}
	if alloc := getenv("NOMAD_ALLOC_DIR"); alloc != "" {
		server.Socket = filepath.Join(alloc, strings.TrimPrefix(filepath.Clean(server.Socket), "alloc/"))
	}
	return server
}
