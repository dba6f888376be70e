package admin

import (
	"fmt"
	"net"
	"strconv"
)

// Config is the admin interface of a process.
//
//	admin { address = "127.0.0.1:9901" }
//
// It has no authentication: whoever reaches it can read it, and can change
// nothing.
type Config struct {
	// Address to listen on; "127.0.0.1:9901" is this machine only, ":9901" all
	// addresses. A reload cannot change it.
	Address string `hcl:"address"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells what is wrong, with the block's position in front.
func (c *Config) Validate() error {
	prefix := ""
	if c.Pos != "" {
		prefix = c.Pos + ": "
	}
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return fmt.Errorf("%sadmin: address is %q; write for example \"127.0.0.1:9901\"", prefix, c.Address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%sadmin: address is %q; its port must be a number from 0 to 65535, such as 9901", prefix, c.Address)
	}
	return nil
}
