package xds

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// State says where the last good configuration is kept on disk, so that a restart
// while Consul is away serves by it. The zero State keeps none.
//
// What was read from the file is served until Consul says otherwise, and until
// the first of our certificates in it expires, or for 72 hours after it was written if
// none of them is of Consul: then nothing is served any more.
type State struct {
	// Dir is a folder that only we may enter, since private keys are written to
	// it; it is made if it is not there. "" means that nothing is kept.
	Dir string
	// Every is how often it is written at most; 0 means every 30 s. At the start,
	// when much changes, it is more often: after 1 s, 2 s, 4 s and so on.
	Every time.Duration
}

// Open makes the folder and tells what is wrong with it; nothing if there is none.
func (s State) Open() error {
	if s.Dir == "" {
		return nil
	}
	if err := openStateDir(s.Dir); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	return nil
}

const (
	stateEvery = 30 * time.Second
	// stateLife is how long a file without a certificate that Consul made for us may be
	// used: that of Consul's certificates.
	stateLife = 72 * time.Hour
	// stateFresh is after how long a file is written though nothing has changed, since it
	// is still what Consul says.
	stateFresh = 12 * time.Hour
	// maxAhead is how much later than now a file may have been written: clocks differ.
	maxAhead = time.Hour
)

// keeper is what a Watcher knows of its file.
type keeper struct {
	// set by New
	path  string // "" if nothing is kept
	every time.Duration
	// changed has room for one: told that there is something to write.
	changed chan struct{}
	// guarded by the Watcher's mu:
	// unconfirmed says that what is in force comes from the file, and Consul has
	// not spoken since; until is when it must not be served any more.
	unconfirmed bool
	until       time.Time
	// told is the last error that was logged.
	told string
}

func newKeeper(state State, proxy string) (*keeper, error) {
	k := &keeper{every: cmp.Or(state.Every, stateEvery), changed: make(chan struct{}, 1)}
	if state.Dir == "" {
		return k, nil
	}
	if err := state.Open(); err != nil {
		return nil, err
	}
	name, err := stateName(proxy)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	k.path = filepath.Join(state.Dir, name)
	return k, nil
}

// restore takes over what the file says. Whatever is wrong with it, we start
// without.
func (w *Watcher) restore(now time.Time) {
	if w.keeper.path == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	head, updates, err := readState(w.keeper.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err == nil:
		err = w.ours(&head)
	}
	if err == nil && head.Saved.After(now.Add(maxAhead)) {
		err = fmt.Errorf("it is from the future: %s", head.Saved.UTC().Format(time.RFC3339))
	}
	if err == nil {
		err = w.takeAll(updates, now)
	}
	var until time.Time
	if err == nil {
		most := head.Saved.Add(stateLife)
		if until = w.leavesEnd(most); !now.Before(until) {
			err = fmt.Errorf("a certificate in it has expired at %s", until.UTC().Format(time.RFC3339))
			if until.Equal(most) {
				err = fmt.Errorf("it is more than %v old, and no certificate in it is Consul's", stateLife)
			}
		}
	}
	if err != nil {
		w.forget()
		w.log.Warn("the kept configuration is not used", "file", w.keeper.path, "reason", err.Error())
		return
	}
	w.keeper.unconfirmed, w.keeper.until = true, until
	w.change(func(s *Status) { s.Restored = true })
	w.log.Warn("serving by the kept configuration until Consul says otherwise",
		"file", w.keeper.path, "saved", head.Saved, "until", until.UTC().Format(time.RFC3339))
	w.assemble(now)
}

// ours tells whether a file is of this proxy and its Consul.
func (w *Watcher) ours(head *stateHead) error {
	switch {
	case head.Proxy != w.node.ID || head.Cluster != w.node.Cluster:
		return fmt.Errorf("it is of proxy %q of service %q", head.Proxy, head.Cluster)
	case head.Agent != w.target.String():
		return fmt.Errorf("it is of the Consul at %s", head.Agent)
	default:
		return nil
	}
}

func (w *Watcher) takeAll(updates []*ads.Update, now time.Time) error {
	var all []error
	for _, update := range updates {
		_, err := w.take(update, now)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// leavesEnd is when the first of our certificates expires, but most if none of them is
// one that Consul made for us: those of users may be good for years.
func (w *Watcher) leavesEnd(most time.Time) time.Time {
	seen := map[string]bool{}
	end, consuls := time.Time{}, false
	look := func(chain string) {
		if chain == "" || seen[chain] {
			return
		}
		seen[chain] = true
		block, _ := pem.Decode([]byte(chain))
		if block == nil {
			return
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return
		}
		if end.IsZero() || leaf.NotAfter.Before(end) {
			end = leaf.NotAfter
		}
		_, err = spiffe.FromCertificate(leaf)
		consuls = consuls || err == nil
	}
	for _, e := range w.clusters.entries {
		if e.value.TLS != nil && !e.static {
			look(e.value.TLS.Leaf.CertificatePEM)
		}
	}
	for _, e := range w.listeners.entries {
		chainsOf(e.value, func(c *mesh.FilterChain) {
			if c.TLS == nil || e.static {
				return
			}
			for _, leaf := range c.TLS.Leaves {
				look(leaf.CertificatePEM)
			}
		})
	}
	if end.IsZero() || !consuls && most.Before(end) {
		return most
	}
	return end
}

// expire drops what comes from the file when it must not be served any more.
func (p *plan) expire() {
	k := p.w.keeper
	if !k.unconfirmed {
		return
	}
	if p.now.Before(k.until) {
		p.at(k.until)
		return
	}
	k.unconfirmed = false
	p.w.forget()
	p.w.change(func(s *Status) { s.Restored, s.Expired = false, true })
	p.w.log.Error("the kept configuration is too old, or a certificate in it has expired, and Consul has not been heard of: nothing is served", "expired", k.until)
}

// confirmed notes that Consul has spoken: what is served is its truth.
func (w *Watcher) confirmed() {
	if k := w.keeper; k.unconfirmed {
		k.unconfirmed = false
		w.log.Info("Consul has confirmed the configuration")
	}
	w.change(func(s *Status) { s.Restored, s.Expired = false, false })
}

// forget drops all that is not static.
func (w *Watcher) forget() {
	w.clusters.clear()
	w.routes.clear()
	w.listeners.clear()
	for name, s := range w.sets {
		if s.hold != nil {
			s.hold.cancel()
			s.hold = nil
		}
		delete(w.sets, name)
	}
	clear(w.unreadSets)
	w.readings = w.listeners.readings(w.clusters.readings(nil))
	w.secrets.Keep(w.readings) // so that nobody uses what is removed
	for name := range w.receivedSecrets {
		w.secrets.Remove(adsSecret(name))
	}
	clear(w.receivedSecrets)
}

// remember asks for the file to be written.
func (w *Watcher) remember() {
	if w.keeper.path == "" {
		return
	}
	w.change(func(s *Status) { s.Unsaved = true })
	select {
	case w.keeper.changed <- struct{}{}:
	default: // asked already
	}
}

// keep writes the file after changes, and once more at the end.
func (w *Watcher) keep(ctx context.Context) {
	if w.keeper.path == "" {
		return
	}
	var next time.Time // when the file may be written
	pause := min(time.Second, w.keeper.every)
	for {
		old := time.NewTimer(stateFresh)
		select {
		case <-ctx.Done():
			old.Stop()
			if w.Status().Unsaved {
				w.save(time.Now())
			}
			return
		case <-w.keeper.changed:
			old.Stop()
		case <-old.C:
			if !w.Status().Connected {
				continue
			}
		}
		for wait := time.Until(next); wait > 0; wait = time.Until(next) {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				w.save(time.Now())
				return
			case <-timer.C:
			}
		}
		w.mu.Lock()
		doubt := w.doubtEnds()
		w.mu.Unlock()
		if time.Now().Before(doubt) { // what is told now may not be the truth
			next = doubt
			w.remember()
			continue
		}
		if w.save(time.Now()) {
			next = time.Now().Add(pause)
			pause = min(2*pause, w.keeper.every)
		}
	}
}

// save writes what Consul says, if it has said all. It tells whether it tried.
func (w *Watcher) save(now time.Time) bool {
	w.mu.Lock()
	if !w.whole || w.keeper.unconfirmed || now.Before(w.doubtEnds()) {
		w.mu.Unlock()
		return false
	}
	all := map[string][]ads.Resource{
		resource.ClusterType: w.clusters.received(), resource.EndpointsType: w.receivedSets(),
		resource.ListenerType: w.listeners.received(), resource.RouteType: w.routes.received(),
	}
	for _, r := range w.receivedSecrets {
		all[resource.SecretType] = append(all[resource.SecretType], r)
	}
	w.change(func(s *Status) { s.Unsaved = false })
	w.mu.Unlock()
	head := stateHead{Format: stateFormat, Proxy: w.node.ID, Cluster: w.node.Cluster, Agent: w.target.String(), Saved: now}
	for _, some := range all {
		head.Resources += len(some)
	}
	err := writeState(w.keeper.path, head, func(yield func(string, ads.Resource) bool) {
		for _, typ := range resource.Types() {
			for _, r := range all[typ] {
				if !yield(typ, r) {
					return
				}
			}
		}
	})
	w.change(func(s *Status) {
		if s.Saves++; err != nil {
			s.SaveFailures++
			s.Unsaved = true
			return
		}
		s.Saved = now
	})
	if err != nil {
		w.remember() // the disk may have room again
	}
	if err == nil {
		w.keeper.told = ""
	} else if text := err.Error(); text != w.keeper.told {
		w.keeper.told = text
		w.log.Error("the configuration could not be kept", "file", w.keeper.path, "err", err)
	}
	return true
}
