package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// IndexConfig bounds an Index. The zero value is right for one agent of a
// cluster with up to some thousand services.
type IndexConfig struct {
	// Follow is the number of services of the agent's own datacenter for which
	// a blocking query is kept open; 0 means 96. (An agent takes 200 HTTP
	// connections from one address, and sidecars need some too.) Those above it
	// are asked for in turn, see Sweep, and one of them that somebody asks for
	// takes the place of the one that nobody has asked for the longest.
	Follow int
	// Sweep is the pause between two queries for services above Follow; 0 means
	// 50 ms, so that 1,000 of them are seen each 50 s.
	Sweep time.Duration
	// Services is the number of services that are kept for one datacenter; 0
	// means 10,000. Those above it are not known, which a log line says.
	Services int
	// Remote is the number of services of other datacenters that are followed;
	// 0 means 32. A further one takes the place of the one that nobody has asked
	// for the longest.
	Remote int
	// Sources is the number of services whose intentions are followed; 0 means
	// 64, and a further one takes a place as with Remote.
	Sources int
	// Workloads are services whose intentions are followed from the start.
	Workloads []string
}

func (c *IndexConfig) setDefaults() {
	c.Follow = cmp.Or(c.Follow, 96)
	c.Sweep = cmp.Or(c.Sweep, 50*time.Millisecond)
	c.Services = cmp.Or(c.Services, 10_000)
	c.Remote = cmp.Or(c.Remote, 32)
	c.Sources = max(cmp.Or(c.Sources, 64), len(c.Workloads)+1)
}

// Validate tells all that is wrong.
func (c *IndexConfig) Validate() error {
	var errs []error
	for _, bound := range []struct {
		name  string
		value int
	}{{"follow", c.Follow}, {"services", c.Services}, {"remote", c.Remote}, {"sources", c.Sources}} {
		if bound.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d; give a positive number, or leave it out for the default", bound.name, bound.value))
		}
	}
	if c.Sweep < 0 {
		errs = append(errs, fmt.Errorf("sweep is %v; give a positive duration, or leave it out for the default", c.Sweep))
	}
	return errors.Join(errs...)
}
