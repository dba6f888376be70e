package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/plugins/internal/handshake"
)

// checkFile tells why the binary cannot be started, before go-plugin and the
// kernel tell it in fewer words.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no file %s", path)
	case err != nil:
		return fmt.Errorf("look for the binary: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file that can be run", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable: run `chmod +x %[1]s`", path)
	}
	return nil
}

func wrongChecksum(path string, pinned, found []byte) error {
	return fmt.Errorf("the checksum of %s is sha256:%s, and the configuration pins sha256:%s: "+
		"if the file is the one you want, write its checksum into the configuration; if not, somebody has changed it",
		path, hex.EncodeToString(found), hex.EncodeToString(pinned))
}

// explain says why the process could not become a session. It is ended.
func explain(c *Config, p *process, log *pluginLog, limit time.Duration, late bool, cause error) error {
	line := p.firstLine()
	parts := strings.Split(line, "|")
	switch {
	case line == "" && late:
		return fmt.Errorf("%s is no plugin, or hangs: it said nothing within %v%s", c.Command, limit, heard(log))
	case line == "":
		return fmt.Errorf("%s is no plugin: %s before it said that it is one%s", c.Command, p.end, heard(log))
	case len(parts) < 5 || parts[0] != "1":
		return fmt.Errorf("%s is no plugin: it printed %s%s", c.Command, short(clean(line)), heard(log))
	case parts[1] != strconv.Itoa(handshake.Version):
		return fmt.Errorf("%s speaks version %s of the protocol, and this Serai version %d: "+
			"build the plugin with the package plugins of this Serai", c.Command, short(clean(parts[1])), handshake.Version)
	case parts[4] != "grpc":
		return fmt.Errorf("%s speaks %s, and a plugin of Serai speaks gRPC", c.Command, short(clean(parts[4])))
	case late:
		return fmt.Errorf("%s hangs: it was not ready within %v%s", c.Command, limit, heard(log))
	}
	return fmt.Errorf("connect to %s: %w (%s)%s", c.Command, cause, p.end, heard(log))
}

// heard is what the process printed last, to stand behind a sentence.
func heard(log *pluginLog) string {
	end := log.end()
	if end == "" {
		return "; it printed nothing on standard error"
	}
	return "; on standard error it printed last: " + end
}
