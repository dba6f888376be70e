package proxy

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/xds"
)

// Validate tells whether config could be served, as far as that can be known
// without Consul: an error names each static resource that is refused.
func Validate(config Config, log *slog.Logger) error {
	watcher, err := xds.New(config.XDS, &mesh.Store{}, upstream.NewSet(log), nil, log)
	if err != nil {
		return err
	}
	var all []error
	for _, r := range watcher.StaticRefusals() {
		all = append(all, fmt.Errorf("%s %q: %s", r.Kind, r.Name, r.Reason))
	}
	return errors.Join(all...)
}
