package mtls

import (
	"crypto/rand"
	"crypto/tls"
	"sync"
	"time"
)

const (
	// ticketTurn is how long new tickets are made with one key; each is good for
	// ticketKeys of these turns.
	ticketTurn = 24 * time.Hour
	ticketKeys = 3
)

// Tickets are the keys of the session tickets that one filter chain gives out. They
// outlive the chain's configurations, so that sessions survive updates, and end
// with its trust. The zero Tickets is ready for use and safe for concurrent use.
type Tickets struct {
	mu     sync.Mutex // guards:
	trust  string
	keys   [][32]byte // the first is for new tickets
	turned time.Time
	// config has the keys.
	config *tls.Config
}

// Use puts the keys in force for config, at once and after each turn. trust stands
// for all by which clients are believed: if it is another one than before, no
// session that was begun is resumed.
func (t *Tickets) Use(config *tls.Config, trust string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trust != trust {
		t.trust, t.keys = trust, nil
	}
	t.config = config
	if !t.turn(now) {
		config.SetSessionTicketKeys(t.keys)
	}
}

// Turn changes the keys if it is time to; it is cheap.
func (t *Tickets) Turn(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.config != nil {
		t.turn(now)
	}
}

func (t *Tickets) turn(now time.Time) (turned bool) {
	if len(t.keys) > 0 && now.Sub(t.turned) < ticketTurn {
		return false
	}
	var fresh [32]byte
	rand.Read(fresh[:])
	keys := append([][32]byte{fresh}, t.keys...)
	t.keys, t.turned = keys[:min(len(keys), ticketKeys)], now
	t.config.SetSessionTicketKeys(t.keys)
	return true
}
