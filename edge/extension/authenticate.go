package extension

import (
	"net/http"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/plugins"
)

// Authenticate makes the layer of authenticate "plugin": it fills
// Exchange.Consumer. known tells whether the configuration has a consumer. If
// the plugin fails and the use is open, the caller stays unknown.
func Authenticate(u *Use, p plugins.Authenticator, known func(consumer string) bool) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if err := u.authenticate(x, req, p, known); err != nil {
				return nil, err
			}
			return next.Serve(x, req)
		})
	}
}

func (u *Use) authenticate(x *wire.Exchange, req *wire.Request, p plugins.Authenticator, known func(string) bool) error {
	r, err := u.view(x, req)
	if err != nil {
		return err
	}
	identity, err := p.Authenticate(x.Context(), r)
	if err != nil {
		return u.ended(x, err)
	}
	if !known(identity.Consumer) {
		u.Counters.UnknownConsumers.Add(1)
		if kept, ok := u.notes.next(); ok {
			u.Log.Warn("plugin names a consumer that is not in the configuration: add it, or change the plugin's settings",
				"plugin", u.Plugin, "consumer", identity.Consumer, "api", x.API, "more_before", kept)
		}
		return &wire.Fault{Status: http.StatusForbidden, Flag: wire.FlagDenied, Text: "this consumer is not known here"}
	}
	change(&req.Header, &plugins.HeaderChange{Remove: identity.Remove, Set: identity.Set})
	x.Consumer = identity.Consumer
	return nil
}

// change applies what a plugin wants of a header.
func change(h *wire.Header, c *plugins.HeaderChange) {
	for _, name := range c.Remove {
		h.Del(name)
	}
	for i := range c.Set {
		h.Set(c.Set[i].Name, c.Set[i].Value)
	}
	for i := range c.Add {
		h.Add(c.Add[i].Name, c.Add[i].Value)
	}
}
