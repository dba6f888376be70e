package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// Dial connects to an endpoint of a cluster that speaks HTTP/2, with the TLS of the
// cluster.
type Dial func(ctx context.Context, cluster string) (net.Conn, error)

// newSecrets makes the Store of what resources refer to.
func (w *Watcher) newSecrets(cfg *Config) *secret.Store {
	return secret.New(secret.Config{
		Open: func(source mesh.SecretSource) (secret.Server, error) {
			if cfg.Dial == nil {
				return nil, errNoDial
			}
			return ads.NewSecretServer(ads.SecretConfig{
				Cluster: source.Cluster, Authority: source.Authority, Delta: source.Delta, Node: w.node, Backoff: cfg.ADS.Backoff,
				Dial: func(ctx context.Context) (net.Conn, error) { return cfg.Dial(ctx, source.Cluster) },
			})
		},
		Check: func(body []byte, read *secret.Reading) error {
			return resource.Reader{Secrets: read}.Secret(body)
		},
		Changed: w.secretsChanged,
	}, w.log)
}

var errNoDial = errors.New("no clusters by which a server of secrets could be asked")

// applySecrets takes over an update of secrets. One that is not good is
// acknowledged all the same, and the last one stays: told of an error Consul would
// send it again and again. Only bytes that are no secret at all are an error, which
// takes nothing from the others.
func (w *Watcher) applySecrets(update *ads.Update, now time.Time) ([]string, error) {
	var notes []string
	var bad []error
	for _, r := range update.Resources {
		if _, err := resource.SecretName(r.Body); err != nil {
			bad = append(bad, fmt.Errorf("resource %q: %w", r.Name, err))
			continue
		}
		w.receivedSecrets[r.Name] = r
		if err := w.secrets.Set(adsSecret(r.Name), r.Body, r.Version); err != nil {
			notes = append(notes, err.Error())
		}
	}
	for _, name := range update.Removed {
		delete(w.receivedSecrets, name)
		w.secrets.Remove(adsSecret(name))
	}
	w.refresh(now)
	return notes, errors.Join(bad...)
}

func adsSecret(name string) mesh.SecretRef {
	return mesh.SecretRef{Name: name, Source: mesh.SecretSource{Kind: mesh.SecretADS}}
}

// secretsChanged puts in force what files and servers of secrets have brought.
func (w *Watcher) secretsChanged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.refresh(now) {
		w.assemble(now)
	}
}

// refresh decodes anew what refers to secrets that have changed.
func (w *Watcher) refresh(now time.Time) bool {
	clusters, listeners := w.clusters.refresh(now), w.listeners.refresh(now)
	return clusters || listeners
}

// keepSecrets forgets what nothing refers to any more.
func (w *Watcher) keepSecrets() {
	readings := w.listeners.readings(w.clusters.readings(nil))
	if slices.Equal(readings, w.readings) {
		return
	}
	w.readings = readings
	w.secrets.Keep(readings)
}
