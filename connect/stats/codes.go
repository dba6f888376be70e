package stats

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// Codes counts responses by their status. The zero Codes is ready for use.
// Counting a status that was counted before is one atomic addition.
type Codes struct {
	list atomic.Pointer[[]*codeCount]
	mu   sync.Mutex // guards changes of list
}

type codeCount struct {
	status int
	n      atomic.Int64
}

// Count counts a response. What is no status counts as 0, which is shown nowhere
// but among those that are completed.
func (c *Codes) Count(status int) {
	if list := c.list.Load(); list != nil {
		for _, one := range *list {
			if one.status == status {
				one.n.Add(1)
				return
			}
		}
	}
	c.add(status).n.Add(1)
}

func (c *Codes) add(status int) *codeCount {
	if status < 100 || status > 999 {
		status = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*codeCount
	if old := c.list.Load(); old != nil {
		list = *old
	}
	for _, one := range list {
		if one.status == status {
			return one
		}
	}
	one := &codeCount{status: status}
	next := append(slices.Clone(list), one)
	c.list.Store(&next)
	return one
}

// Class is how many responses of a class (1 to 5) there were.
func (c *Codes) Class(class int) (n int64) {
	for _, one := range c.all() {
		if one.status/100 == class {
			n += one.n.Load()
		}
	}
	return n
}

// Completed is how many there were.
func (c *Codes) Completed() (n int64) {
	for _, one := range c.all() {
		n += one.n.Load()
	}
	return n
}

func (c *Codes) all() []*codeCount {
	if list := c.list.Load(); list != nil {
		return *list
	}
	return nil
}

// Reset begins again at 0.
func (c *Codes) Reset() {
	for _, one := range c.all() {
		one.n.Store(0)
	}
}

// Each yields what was counted by Envoy's names below prefix: prefix_200,
// prefix_2xx and prefix_completed. It tells whether to go on.
func (c *Codes) Each(prefix string, yield func(Stat) bool) (more bool) {
	var classes [10]int64
	completed := int64(0)
	for _, one := range c.all() {
		n := one.n.Load()
		completed += n
		classes[one.status/100] += n
		if one.status > 0 && !yield(Stat{Name: prefix + "_" + strconv.Itoa(one.status), Value: n}) {
			return false
		}
	}
	for class, n := range classes {
		if class > 0 && n > 0 && !yield(Stat{Name: prefix + "_" + strconv.Itoa(class) + "xx", Value: n}) {
			return false
		}
	}
	return yield(Stat{Name: prefix + "_completed", Value: completed})
}
