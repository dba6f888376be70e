package admin

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
)

// Plane is what only a data plane can show.
type Plane struct {
	// Dump is the configuration as JSON, as /config_dump is asked for it; a
	// QueryError if it is asked for what there is not.
	Dump func(query url.Values) ([]byte, error)
	// Clusters, Listeners and Snapshot are what is in force; Snapshot may return
	// nil.
	Clusters  func() []upstream.ClusterStats
	Listeners func() []listen.Stats
	Snapshot  func() *mesh.Snapshot
	// Static tells whether a cluster stands in the bootstrap file.
	Static func(cluster string) bool
}

// QueryError is a question that cannot be answered, with its status.
type QueryError struct {
	Status int
	Text   string
}

func (b *QueryError) Error() string { return b.Text }

func (h *handler) planePaths() {
	if h.Plane == nil {
		return
	}
	h.paths["/config_dump"] = endpoint{"dump the configuration; resource, mask, name_regex, include_eds", false, h.configDump}
	h.paths["/clusters"] = endpoint{"upstream cluster status; format=json", false, h.clusters}
	h.paths["/listeners"] = endpoint{"print listener info; format=json", false, h.listeners}
	h.paths["/certs"] = endpoint{"print certs on machine", false, h.certs}
	h.paths["/runtime"] = endpoint{"print runtime values", false, h.runtime}
	h.paths["/init_dump"] = endpoint{"print what the start waits for", false, h.initDump}
}

// initDump tells what the start waits for, in Envoy's shape; there is one manager.
func (h *handler) initDump(w http.ResponseWriter, _ *http.Request) {
	name, reason := h.state()
	if name != "PRE_INITIALIZING" && name != "INITIALIZING" || reason == nil {
		writeJSON(w, map[string]any{})
		return
	}
	writeJSON(w, map[string]any{"unready_targets_dumps": []any{
		map[string]any{"name": "init manager Server", "target_names": []string{reason.Error()}},
	}})
}

func (h *handler) configDump(w http.ResponseWriter, r *http.Request) {
	text, err := h.Plane.Dump(r.URL.Query())
	if err != nil {
		status := http.StatusInternalServerError
		if bad, ok := errors.AsType[*QueryError](err); ok {
			status = bad.Status
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(text) //nolint:errcheck // the client is gone
}

// addressOf is an address as protobuf writes it.
func addressOf(a mesh.Address) map[string]any {
	if a.Socket != "" {
		return map[string]any{"pipe": map[string]any{"path": a.Socket}}
	}
	return map[string]any{"socket_address": map[string]any{"address": a.AddrPort.Addr().String(), "port_value": a.AddrPort.Port()}}
}

func (h *handler) listeners(w http.ResponseWriter, r *http.Request) {
	all := h.Plane.Listeners()
	if r.URL.Query().Get("format") != "json" {
		for _, l := range all {
			fmt.Fprintf(w, "%s::%s\n", l.Name, l.Address)
		}
		return
	}
	statuses := []any{}
	for _, l := range all {
		address := map[string]any{"pipe": map[string]any{"path": l.Address}}
		if host, port, err := net.SplitHostPort(l.Address); err == nil {
			number, _ := strconv.Atoi(port)
			address = map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}}
		}
		statuses = append(statuses, map[string]any{"name": l.Name, "local_address": address})
	}
	writeJSON(w, map[string]any{"listener_statuses": statuses})
}

func (h *handler) clusters(w http.ResponseWriter, r *http.Request) {
	all := h.Plane.Clusters()
	if r.URL.Query().Get("format") == "json" {
		statuses := []any{}
		for i := range all {
			statuses = append(statuses, h.clusterStatus(&all[i]))
		}
		writeJSON(w, map[string]any{"cluster_statuses": statuses})
		return
	}
	for i := range all {
		h.clusterText(w, &all[i])
	}
}

// limitsOf are the circuit breakers in force.
func limitsOf(l *mesh.Limits) (connections, pending, requests, retries uint32) {
	or := func(value uint32, set bool, otherwise uint32) uint32 {
		if set {
			return value
		}
		return otherwise
	}
	return or(l.MaxConnections, l.HasConnections, 1024), or(l.MaxPending, l.HasPending, 1024),
		or(l.MaxRequests, l.HasRequests, 1024), or(l.MaxRetries, l.HasRetries, 3)
}

func (h *handler) clusterText(w http.ResponseWriter, c *upstream.ClusterStats) {
	line := func(name string, value any) { fmt.Fprintf(w, "%s::%s::%v\n", c.Name, name, value) }
	line("observability_name", c.StatName())
	if o := c.Outlier; o != nil {
		line("outlier::success_rate_average", o.Average)
		line("outlier::success_rate_ejection_threshold", o.Threshold)
		line("outlier::local_origin_success_rate_average", o.LocalAverage)
		line("outlier::local_origin_success_rate_ejection_threshold", o.LocalThreshold)
	}
	connections, pending, requests, retries := limitsOf(&c.Definition.Limits)
	for _, priority := range []string{"default", "high"} {
		if priority == "high" {
			connections, pending, requests, retries = 1024, 1024, 1024, 3
		}
		line(priority+"_priority::max_connections", connections)
		line(priority+"_priority::max_pending_requests", pending)
		line(priority+"_priority::max_requests", requests)
		line(priority+"_priority::max_retries", retries)
	}
	line("added_via_api", !h.Plane.Static(c.Name))
	if c.Definition.EndpointName != "" {
		line("eds_service_name", c.Definition.EndpointName)
	}
	if c.Definition.Refusal != "" {
		line("refused", c.Definition.Refusal)
	}
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		address, where := e.Endpoint.Address.String(), e.Endpoint.At()
		for _, one := range []struct {
			name  string
			value any
		}{
			{"cx_active", e.Connections},
			{"cx_connect_fail", e.ConnectFails},
			{"cx_total", e.Connects},
			{"rq_active", e.Active},
			{"rq_error", e.Errors},
			{"rq_success", e.Requests - e.Errors},
			{"rq_timeout", e.Timeouts},
			{"rq_total", e.Requests},
			{"hostname", e.Endpoint.Hostname},
			{"health_flags", e.HealthFlags()},
			{"weight", e.Endpoint.Weight},
			{"region", where.Region},
			{"zone", where.Zone},
			{"sub_zone", where.SubZone},
			{"canary", canary(&e.Endpoint)},
			{"priority", e.Endpoint.Priority},
			{"success_rate", e.SuccessRate},
			{"local_origin_success_rate", e.LocalSuccessRate},
		} {
			line(address+"::"+one.name, one.value)
		}
	}
}

func (h *handler) clusterStatus(c *upstream.ClusterStats) map[string]any {
	connections, pending, requests, retries := limitsOf(&c.Definition.Limits)
	out := map[string]any{
		"name": c.Name, "observability_name": c.StatName(),
		"circuit_breakers": map[string]any{"thresholds": []any{
			map[string]any{"max_connections": connections, "max_pending_requests": pending, "max_requests": requests, "max_retries": retries},
			map[string]any{"priority": "HIGH", "max_connections": 1024, "max_pending_requests": 1024, "max_requests": 1024, "max_retries": 3},
		}},
	}
	if !h.Plane.Static(c.Name) {
		out["added_via_api"] = true
	}
	if c.Definition.EndpointName != "" {
		out["eds_service_name"] = c.Definition.EndpointName
	}
	if o := c.Outlier; o != nil {
		percent(out, "success_rate_ejection_threshold", o.Threshold)
		percent(out, "local_origin_success_rate_ejection_threshold", o.LocalThreshold)
	}
	var hosts []any
	for i := range c.Endpoints {
		hosts = append(hosts, hostStatus(&c.Endpoints[i]))
	}
	if hosts != nil {
		out["host_statuses"] = hosts
	}
	return out
}

func hostStatus(e *upstream.HostStats) map[string]any {
	number := func(name string, value int64, gauge bool) map[string]any {
		out := map[string]any{"name": name}
		if value != 0 {
			out["value"] = strconv.FormatInt(value, 10)
		}
		if gauge {
			out["type"] = "GAUGE"
		}
		return out
	}
	health := map[string]any{"eds_health_status": strings.ToUpper(e.Endpoint.Health.String())}
	if e.Ejected {
		health["failed_outlier_check"] = true
	}
	locality, where := map[string]any{}, e.Endpoint.At()
	for name, value := range map[string]string{"region": where.Region, "zone": where.Zone, "sub_zone": where.SubZone} {
		if value != "" {
			locality[name] = value
		}
	}
	out := map[string]any{
		"address": addressOf(e.Endpoint.Address), "health_status": health, "weight": e.Endpoint.Weight, "locality": locality,
		"stats": []any{
			number("cx_connect_fail", e.ConnectFails, false), number("cx_total", e.Connects, false), number("rq_error", e.Errors, false),
			number("rq_success", e.Requests-e.Errors, false), number("rq_timeout", e.Timeouts, false), number("rq_total", e.Requests, false),
			number("cx_active", e.Connections, true), number("rq_active", e.Active, true),
		},
	}
	if e.Endpoint.Hostname != "" {
		out["hostname"] = e.Endpoint.Hostname
	}
	if e.Endpoint.Priority != 0 {
		out["priority"] = e.Endpoint.Priority
	}
	percent(out, "success_rate", e.SuccessRate)
	percent(out, "local_origin_success_rate", e.LocalSuccessRate)
	return out
}

// percent shows a rate, if it is known.
func percent(out map[string]any, name string, rate float64) {
	if rate >= 0 {
		out[name] = map[string]any{"value": rate}
	}
}

// canary tells what the control plane says of an endpoint.
func canary(e *mesh.Endpoint) bool {
	is, ok := e.Metadata["envoy.lb"]["canary"].(bool)
	return ok && is
}

// certs shows the certificates of all TLS contexts in force, those that several
// share once.
func (h *handler) certs(w http.ResponseWriter, _ *http.Request) {
	all := []any{}
	seen := map[[2]string]bool{}
	add := func(leaf mesh.Leaf, roots mesh.Roots) {
		key := [2]string{leaf.CertificatePEM, roots.PEM}
		if key == [2]string{} || seen[key] {
			return
		}
		seen[key] = true
		one := map[string]any{}
		if cas := certificates(roots.PEM); cas != nil {
			one["ca_cert"] = cas
		}
		if chain := certificates(leaf.CertificatePEM); chain != nil {
			one["cert_chain"] = chain
		}
		all = append(all, one)
	}
	if now := h.Plane.Snapshot(); now != nil {
		for _, l := range now.Listeners {
			for _, chain := range append(slices.Clone(l.Chains), l.Default) {
				if chain == nil || chain.TLS == nil {
					continue
				}
				for _, leaf := range chain.TLS.Leaves {
					add(leaf, chain.TLS.Roots)
				}
			}
		}
		for _, c := range now.Clusters {
			if c.TLS != nil {
				add(c.TLS.Leaf, c.TLS.Roots)
			}
		}
	}
	writeJSON(w, map[string]any{"certificates": all})
}

func certificates(text string) []any {
	var all []any
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		names := []any{}
		for _, uri := range cert.URIs {
			names = append(names, map[string]string{"uri": uri.String()})
		}
		for _, name := range cert.DNSNames {
			names = append(names, map[string]string{"dns": name})
		}
		for _, ip := range cert.IPAddresses {
			names = append(names, map[string]string{"ip_address": ip.String()})
		}
		serial := cert.SerialNumber.Text(16)
		if len(serial)%2 == 1 {
			serial = "0" + serial
		}
		all = append(all, map[string]any{
			"path": "<inline>", "serial_number": serial, "subject_alt_names": names,
			"days_until_expiration": strconv.Itoa(int(max(0, math.Floor(time.Until(cert.NotAfter).Hours()/24)))),
			"valid_from":            cert.NotBefore.UTC().Format(time.RFC3339), "expiration_time": cert.NotAfter.UTC().Format(time.RFC3339),
		})
	}
}
