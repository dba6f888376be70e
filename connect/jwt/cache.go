package jwt

import "sync"

// cache remembers tokens that were verified, and by which keys: a new key set
// begins anew. It holds at most size tokens, of which the older half goes when
// there are more.
type cache struct {
	half, longest int

	mu         sync.Mutex // guards:
	by         *keySet
	young, old map[string]*token
}

const (
	defaultCacheSize    = 100
	defaultCacheLongest = 4096
	// maxCacheSize is more than anybody means.
	maxCacheSize = 10_000
)

func newCache(size, longest int) *cache {
	if size <= 0 {
		size = defaultCacheSize
	}
	if longest <= 0 {
		longest = defaultCacheLongest
	}
	return &cache{half: max(1, min(size, maxCacheSize)/2), longest: longest}
}

// get returns a token that keys have verified, nil if none is known.
func (c *cache) get(text string, keys *keySet) *token {
	if len(text) > c.longest {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by != keys {
		return nil
	}
	if t := c.young[text]; t != nil {
		return t
	}
	t := c.old[text]
	if t != nil {
		c.add(t)
	}
	return t
}

// put remembers that keys have verified t, whose text is the cache's own then.
func (c *cache) put(t *token, keys *keySet) {
	if len(t.text) > c.longest {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by != keys {
		c.by, c.young, c.old = keys, nil, nil
	}
	c.add(t)
}

func (c *cache) add(t *token) {
	if len(c.young) >= c.half {
		c.young, c.old = nil, c.young
	}
	if c.young == nil {
		c.young = make(map[string]*token, c.half)
	}
	c.young[t.text] = t
}
