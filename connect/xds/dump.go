package xds

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// DumpQuery asks for a part of the configuration; the zero DumpQuery for all but
// endpoints.
type DumpQuery struct {
	// Resource names a list, such as dynamic_active_clusters, of which the elements
	// are shown by themselves; "" for all as it is.
	Resource string
	// Mask are paths of fields, of which nothing else is shown; none for all.
	Mask []string
	// Name, if not nil, is what the names of resources must match, in full.
	Name *regexp.Regexp
	// Endpoints shows them, too.
	Endpoints bool
}

// DumpError is a query that cannot be answered.
type DumpError struct{ Text string }

func (e *DumpError) Error() string { return e.Text }

// object is what JSON calls so.
type object = map[string]any

const adminType = "type.googleapis.com/envoy.admin.v3."

// Dump is what was received and is in force, as Envoy's /config_dump shows it:
// JSON, with what is secret left out. bootstrap is the file from which the
// process started, as JSON; nil for none.
func (w *Watcher) Dump(q DumpQuery, bootstrap []byte, started time.Time) ([]byte, error) {
	d := &dump{query: q, errors: map[[2]string]string{}}
	w.collect(d)
	configs := []object{
		d.bootstrapDump(bootstrap, started), d.clusterDump(), d.listenerDump(),
		{"@type": adminType + "ScopedRoutesConfigDump"},
		d.routeDump(),
		d.secretDump(),
	}
	if q.Endpoints {
		configs = slices.Insert(configs, 2, d.endpointDump())
	}
	shown, err := q.apply(configs)
	if err != nil {
		return nil, err
	}
	if len(shown) == 0 {
		return []byte("{}"), nil
	}
	for i := range shown {
		hide(shown[i])
	}
	return json.MarshalIndent(object{"configs": shown}, "", " ")
}

// dumped is one resource.
type dumped struct {
	name, version string
	body          []byte
	since         time.Time
	static, force bool
}

// dump is what a dump is made of, taken at one time.
type dump struct {
	query                                 DumpQuery
	clusters, listeners, routes, endpoint []dumped
	secrets                               []secret.Shown
	// errors are why something is refused, by kind and name.
	errors map[[2]string]string
}

// collect takes what is there; what it takes does not change any more.
func (w *Watcher) collect(d *dump) {
	status := w.Status()
	for _, list := range [][]Refusal{status.Refusals, status.Unread} {
		for _, r := range list {
			kind := r.Kind
			if kind == "filter chain" {
				kind = "listener"
			}
			key := [2]string{kind, r.Name}
			if d.errors[key] != "" {
				d.errors[key] += "; "
			}
			d.errors[key] += r.Reason
		}
	}
	d.secrets = w.secrets.Secrets()
	w.mu.Lock()
	defer w.mu.Unlock()
	force := w.force
	if force == nil {
		force = &mesh.Snapshot{}
	}
	d.clusters = collect(d, w.clusters, force.Clusters)
	d.listeners = collect(d, w.listeners, force.Listeners)
	d.routes = collect(d, w.routes, force.Routes)
	for _, name := range slices.Sorted(maps.Keys(w.sets)) {
		if set := w.sets[name]; d.asked(name) {
			d.endpoint = append(d.endpoint, dumped{name: name, version: set.version, body: set.body.bytes()})
		}
	}
}

func (d *dump) asked(name string) bool { return d.query.Name == nil || d.query.Name.MatchString(name) }

func collect[T any](d *dump, t *table[T], force map[string]*T) []dumped {
	var all []dumped
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		if !d.asked(name) {
			continue
		}
		all = append(all, dumped{name: name, version: e.version, body: e.body.bytes(), since: e.since, static: e.static, force: force[name] != nil})
	}
	return all
}

// bootstrapDump shows the file, with its resources as they were read.
func (d *dump) bootstrapDump(text []byte, started time.Time) object {
	out := object{"@type": adminType + "BootstrapConfigDump", "last_updated": stamp(started)}
	var tree object
	if json.Unmarshal(text, &tree) != nil || tree == nil {
		return out
	}
	delete(tree, "staticResources")
	static := object{}
	for i := range d.clusters {
		if r := &d.clusters[i]; r.static {
			push(static, "clusters", typeless(shown(resource.ClusterType, r)))
		}
	}
	for i := range d.listeners {
		if r := &d.listeners[i]; r.static {
			push(static, "listeners", typeless(shown(resource.ListenerType, r)))
		}
	}
	tree["static_resources"] = static
	out["bootstrap"] = tree
	return out
}

func typeless(tree object) object {
	delete(tree, "@type")
	return tree
}

// stamp is a time as protobuf writes it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// failed is Envoy's UpdateFailureState of what is refused; nil for what is not.
func (d *dump) failed(kind string, r *dumped, body object) object {
	reason := d.errors[[2]string{kind, r.name}]
	if reason == "" {
		return nil
	}
	out := object{"last_update_attempt": stamp(r.since), "details": reason}
	if body != nil {
		out["failed_configuration"] = body
	}
	if r.version != "" {
		out["version_info"] = r.version
	}
	return out
}

func (d *dump) clusterDump() object {
	out := object{"@type": adminType + "ClustersConfigDump"}
	for i := range d.clusters {
		r := &d.clusters[i]
		body := shown(resource.ClusterType, r)
		one := object{"cluster": body, "last_updated": stamp(r.since)}
		list := "static_clusters"
		if !r.static {
			one["version_info"] = r.version
			if list = "dynamic_active_clusters"; !r.force {
				list = "dynamic_warming_clusters"
			}
			if failed := d.failed("cluster", r, body); failed != nil {
				one["error_state"] = failed
			}
		}
		push(out, list, one)
	}
	return out
}

func (d *dump) listenerDump() object {
	out := object{"@type": adminType + "ListenersConfigDump"}
	for i := range d.listeners {
		r := &d.listeners[i]
		body := shown(resource.ListenerType, r)
		state := object{"listener": body, "last_updated": stamp(r.since)}
		if r.static {
			push(out, "static_listeners", state)
			continue
		}
		state["version_info"] = r.version
		one := object{"name": r.name}
		if r.force {
			one["active_state"] = state
		} else {
			one["warming_state"] = state
		}
		if failed := d.failed("listener", r, body); failed != nil {
			one["error_state"] = failed
		}
		push(out, "dynamic_listeners", one)
	}
	return out
}

// routeDump shows the tables of the control plane, and those that stand in
// listeners.
func (d *dump) routeDump() object {
	out := object{"@type": adminType + "RoutesConfigDump"}
	for i := range d.routes {
		r := &d.routes[i]
		body := shown(resource.RouteType, r)
		one := object{"route_config": body, "last_updated": stamp(r.since), "version_info": r.version}
		if failed := d.failed("route", r, body); failed != nil {
			one["error_state"] = failed
		}
		push(out, "dynamic_route_configs", one)
	}
	for i := range d.listeners {
		r := &d.listeners[i]
		inline(shown(resource.ListenerType, r), func(table object) {
			table["@type"] = resource.RouteType
			push(out, "static_route_configs", object{"route_config": table, "last_updated": stamp(r.since)})
		})
	}
	return out
}

// inline yields the route tables in a tree.
func inline(tree any, yield func(object)) {
	switch node := tree.(type) {
	case object:
		for name, child := range node {
			if table, ok := child.(object); ok && name == "route_config" && table["virtual_hosts"] != nil {
				yield(maps.Clone(table))
				continue
			}
			inline(child, yield)
		}
	case []any:
		for _, child := range node {
			inline(child, yield)
		}
	}
}

func (d *dump) endpointDump() object {
	out := object{"@type": adminType + "EndpointsConfigDump"}
	for i := range d.endpoint {
		body := shown(resource.EndpointsType, &d.endpoint[i])
		policy, ok := body["policy"].(object)
		if !ok {
			policy = object{}
			body["policy"] = policy
		}
		if _, said := policy["overprovisioning_factor"]; !said {
			policy["overprovisioning_factor"] = 140
		}
		push(out, "dynamic_endpoint_configs", object{"version_info": d.endpoint[i].version, "endpoint_config": body})
	}
	for i := range d.clusters {
		r := &d.clusters[i]
		if load, ok := shown(resource.ClusterType, r)["load_assignment"].(object); ok {
			load["@type"] = resource.EndpointsType
			list := "dynamic_endpoint_configs"
			if r.static {
				list = "static_endpoint_configs"
			}
			push(out, list, object{"endpoint_config": load})
		}
	}
	return out
}

// secretDump shows what is referred to by name. What has not come yet is warming.
func (d *dump) secretDump() object {
	out := object{"@type": adminType + "SecretsConfigDump"}
	for i := range d.secrets {
		s := &d.secrets[i]
		if !d.asked(s.Ref.Name) {
			continue
		}
		one := object{"name": s.Ref.Name}
		if s.Body == nil {
			one["secret"] = object{"@type": resource.SecretType, "name": s.Ref.Name}
			push(out, "dynamic_warming_secrets", one)
			continue
		}
		one["secret"] = shown(resource.SecretType, &dumped{name: s.Ref.Name, body: s.Body})
		if s.Ref.Source.Kind == mesh.SecretStatic {
			push(out, "static_secrets", one)
			continue
		}
		one["last_updated"] = stamp(s.At)
		if s.Version != "" {
			one["version_info"] = s.Version
		}
		push(out, "dynamic_active_secrets", one)
	}
	return out
}

func push(to object, list string, one object) {
	all, _ := to[list].([]any)
	to[list] = append(all, one)
}

// shown is a resource as JSON with its type.
func shown(typ string, r *dumped) object {
	out, err := resource.ToJSON(typ, r.body)
	if err != nil {
		return object{"@type": typ, "name": r.name, "error": fmt.Sprintf("not shown: %v", err)}
	}
	return out
}

// apply picks what is asked for.
func (q *DumpQuery) apply(configs []object) ([]object, error) {
	out := configs
	if q.Resource != "" {
		out = nil
		known := false
		for _, config := range configs {
			list, ok := config[q.Resource].([]any)
			if !ok {
				known = known || q.knows(config)
				continue
			}
			known = true
			for _, one := range list {
				if element, ok := one.(object); ok {
					element["@type"] = fmt.Sprint(config["@type"]) + "." + elementType(q.Resource)
					out = append(out, element)
				}
			}
		}
		if !known {
			return nil, &DumpError{fmt.Sprintf("%s not found in config dump", q.Resource)}
		}
	}
	if len(q.Mask) > 0 {
		for i := range out {
			masked := object{"@type": out[i]["@type"]}
			for _, path := range q.Mask {
				keep(masked, out[i], strings.Split(strings.TrimSpace(path), "."))
			}
			out[i] = masked
		}
	}
	return out, nil
}

// knows tells whether the type of a config may have the list, which is empty.
func (q *DumpQuery) knows(config object) bool {
	lists := map[string]string{
		"ClustersConfigDump":  "static_clusters dynamic_active_clusters dynamic_warming_clusters",
		"ListenersConfigDump": "static_listeners dynamic_listeners",
		"RoutesConfigDump":    "static_route_configs dynamic_route_configs",
		"EndpointsConfigDump": "static_endpoint_configs dynamic_endpoint_configs",
		"SecretsConfigDump":   "static_secrets dynamic_active_secrets dynamic_warming_secrets",
	}
	name := strings.TrimPrefix(fmt.Sprint(config["@type"]), adminType)
	return slices.Contains(strings.Fields(lists[name]), q.Resource)
}

// elementType is the type of the elements of a list, within that of the list.
func elementType(list string) string {
	switch {
	case strings.HasSuffix(list, "_clusters"):
		return kindOfElement(list) + "Cluster"
	case strings.HasSuffix(list, "_listeners"):
		return kindOfElement(list) + "Listener"
	case strings.HasSuffix(list, "_route_configs"):
		return kindOfElement(list) + "RouteConfig"
	case strings.HasSuffix(list, "_endpoint_configs"):
		return kindOfElement(list) + "EndpointConfig"
	default:
		return kindOfElement(list) + "Secret"
	}
}

func kindOfElement(list string) string {
	if strings.HasPrefix(list, "static_") {
		return "Static"
	}
	return "Dynamic"
}

// keep copies what a path names, also in the elements of lists.
func keep(to, from object, path []string) {
	value, ok := from[path[0]]
	if !ok {
		return
	}
	if len(path) == 1 {
		to[path[0]] = value
		return
	}
	switch child := value.(type) {
	case object:
		below, ok := to[path[0]].(object)
		if !ok {
			below = object{}
			to[path[0]] = below
		}
		if typ, ok := child["@type"]; ok {
			below["@type"] = typ
		}
		keep(below, child, path[1:])
	case []any:
		list, ok := to[path[0]].([]any)
		if !ok {
			list = make([]any, len(child))
			for i := range list {
				list[i] = object{}
			}
			to[path[0]] = list
		}
		for i := range child {
			element, ok := child[i].(object)
			below, fits := list[i].(object)
			if ok && fits {
				keep(below, element, path[1:])
			}
		}
	}
}

// hide leaves out what Envoy calls sensitive.
func hide(tree any) {
	switch node := tree.(type) {
	case object:
		for name, child := range node {
			switch name {
			case "private_key", "password", "pkcs12", "secret", "generic_secret", "session_ticket_keys", "private_key_provider",
				"secret_access_key", "session_token":
				if whole, ok := child.(object); ok && whole["@type"] != nil { // a Secret, not the text of one
					hide(whole)
					continue
				}
				node[name] = redacted(child)
			default:
				hide(child)
			}
		}
	case []any:
		for _, child := range node {
			hide(child)
		}
	}
}

// hidden stands in place of what is secret.
const hidden = "[redacted]"

// redacted is a tree without its texts, save names of files and types.
func redacted(tree any) any {
	switch node := tree.(type) {
	case string:
		return hidden
	case object:
		for name, child := range node {
			switch name {
			case "filename", "@type", "environment_variable":
			case "inline_bytes":
				node[name] = base64.StdEncoding.EncodeToString([]byte(hidden))
			default:
				node[name] = redacted(child)
			}
		}
	case []any:
		for i := range node {
			node[i] = redacted(node[i])
		}
	}
	return tree
}
