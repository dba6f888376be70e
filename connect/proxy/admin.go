package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/admin"
	"github.com/serai-net/serai/connect/xds"
)

// drainTime is how long a graceful drain of an operator takes, unless the
// configuration says otherwise.
const drainTime = time.Minute

// admin binds the admin interface.
func (p *Proxy) admin() (*admin.Server, error) {
	if p.config.DrainTime == 0 {
		p.config.DrainTime = drainTime
	}
	layers, entries := runtimeOf(p.config.Bootstrap)
	node := p.config.XDS.ADS.Node
	options := admin.Options{
		Address: p.config.Admin, AddressPath: p.config.AdminAddressPath, AccessLog: p.config.AdminLog,
		SharePort: p.config.Bootstrap != nil, Source: p, View: p.view, Level: p.config.LogLevel, Extra: p.inspection(),
		Plane: &admin.Plane{
			Dump: p.dump, Clusters: p.clusters.Clusters, Listeners: p.listeners.Stats, Snapshot: p.store.Load, Static: p.watcher.IsStaticCluster,
		},
		Actions: admin.Actions{Quit: p.end, Health: p.health, Drain: p.drainListeners, Reopen: p.config.Reopen},
		Info: admin.Info{
			Envoy: node.Envoy, Node: admin.Node{ID: node.ID, Cluster: node.Cluster, Metadata: node.Metadata},
			DrainTime: p.config.DrainTime, Layers: layers, Runtime: entries,
		},
	}
	if m := p.observe.Metrics(); m != nil {
		var err error
		if options.Metrics, err = telemetry.Handler(m, admin.Version(), p.log); err != nil {
			return nil, err
		}
	}
	return admin.Listen(options, p.log)
}

// end ends the process as a signal does.
func (p *Proxy) end() {
	select {
	case p.quit <- struct{}{}:
	default:
	}
}

// health notes what an operator says of us. As with Envoy, clients are asked to leave
// as long as we are said to be unwell.
func (p *Proxy) health(ok bool) {
	p.unhealthy.Store(!ok)
	p.listeners.Advise(!ok)
}

// drainListeners stops listeners as [admin.Actions] says.
func (p *Proxy) drainListeners(graceful, inbound, stay bool) {
	p.log.Info("an operator drains listeners", "graceful", graceful, "inbound_only", inbound, "stay", stay)
	if !graceful {
		p.listeners.Stop(inbound)
		return
	}
	p.draining.Store(true)
	p.listeners.Drain(inbound)
	if !stay {
		// It ends with the process at the latest.
		time.AfterFunc(p.config.DrainTime, func() { p.listeners.Stop(inbound) })
	}
}

// maxMask bounds the mask of a query, in bytes.
const maxMask = 4096

// dump is /config_dump.
func (p *Proxy) dump(query url.Values) ([]byte, error) {
	q := xds.DumpQuery{Resource: query.Get("resource"), Endpoints: query.Has("include_eds")}
	if text := query.Get("name_regex"); text != "" {
		name, err := admin.Pattern("^(?:" + text + ")$")
		if err != nil {
			return nil, &admin.QueryError{Status: http.StatusBadRequest, Text: "Error while parsing name_regex from " + text[:min(len(text), 80)]}
		}
		q.Name = name
	}
	if mask := query.Get("mask"); mask != "" {
		if len(mask) > maxMask {
			return nil, &admin.QueryError{Status: http.StatusBadRequest, Text: "mask is too long"}
		}
		q.Mask = strings.Split(mask, ",")
	}
	var file []byte
	if p.config.Bootstrap != nil {
		file = p.config.Bootstrap.JSON
	}
	text, err := p.watcher.Dump(q, file, p.started)
	if wrong, ok := errors.AsType[*xds.DumpError](err); ok {
		return nil, &admin.QueryError{Status: http.StatusNotFound, Text: wrong.Text}
	}
	return text, err
}
