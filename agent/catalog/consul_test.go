package catalog_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
)

// consul is a catalog behind the part of Consul's HTTP API that an Index asks.
// (What the real one answers, the integration tests tell.)
type consul struct {
	url string

	mu         sync.Mutex // guards:
	index      uint64
	changed    chan struct{} // closed and made anew at each change
	services   map[string][]*api.ServiceEntry
	remote     map[string][]*api.ServiceEntry // of dc2
	intentions map[string][]*api.Intention
	policy     string // answer to /v1/agent/self; "" refuses it
	gone       bool
	asked      map[string]int // by path
	open       int            // queries that wait
	mostOpen   int
}

func newConsul(t *testing.T) *consul {
	t.Helper()
	c := &consul{
		index: 1, changed: make(chan struct{}), services: map[string][]*api.ServiceEntry{"consul": {entry("consul", "n0", "10.0.0.1", 8300)}},
		remote: map[string][]*api.ServiceEntry{}, intentions: map[string][]*api.Intention{}, asked: map[string]int{},
		policy: `{"Config": {"Datacenter": "dc1", "NodeName": "n0"}, "DebugConfig": {"ACLsEnabled": true, "ACLResolverSettings": {"ACLDefaultPolicy": "deny"}}}`,
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// change changes what is there and wakes who waits.
func (c *consul) change(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.index++
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[r.URL.Path]++
	wait, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	patience, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		patience = time.Minute
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	before, _ := c.answer(r)
	for wait >= c.index && !c.gone {
		c.open++
		c.mostOpen = max(c.mostOpen, c.open)
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		case <-deadline.C:
			wait = 0
		}
		c.mu.Lock()
		c.open--
		if now, _ := c.answer(r); now != before || r.Context().Err() != nil {
			break
		}
		if wait > 0 && !c.gone {
			wait = c.index // a change of something else
		}
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(c.index, 10))
	text, status := c.answer(r)
	if status != http.StatusOK {
		http.Error(w, text, status)
		return
	}
	fmt.Fprint(w, text)
}

func (c *consul) answer(r *http.Request) (string, int) {
	if c.gone {
		return "No cluster leader", http.StatusInternalServerError
	}
	services := c.services
	if r.URL.Query().Get("dc") == "dc2" {
		services = c.remote
	}
	path := r.URL.Path
	switch name, isHealth := strings.CutPrefix(path, "/v1/health/service/"); {
	case isHealth:
		return text(services[name]), http.StatusOK
	case path == "/v1/catalog/services":
		names := map[string][]string{}
		for name, entries := range services {
			if len(entries) > 0 {
				names[name] = []string{}
			}
		}
		return text(names), http.StatusOK
	case path == "/v1/catalog/nodes":
		return text([]*api.Node{{Node: "N0", Address: "10.0.0.1", Datacenter: "dc1", Meta: map[string]string{"a": "b"}}}), http.StatusOK
	case path == "/v1/catalog/datacenters":
		return `["dc1", "dc2"]`, http.StatusOK
	case path == "/v1/agent/self" && c.policy == "":
		return "Permission denied", http.StatusForbidden
	case path == "/v1/agent/self":
		return c.policy, http.StatusOK
	case path == "/v1/connect/intentions/match":
		source := r.URL.Query().Get("name")
		return text(map[string][]*api.Intention{source: c.intentions[source]}), http.StatusOK
	}
	return "no such path", http.StatusNotFound
}

func (c *consul) client(t *testing.T) *catalog.Client {
	t.Helper()
	client, err := catalog.NewClient(catalog.Config{Address: c.url})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of strings and numbers
	}
	return string(b)
}

func entry(service, node, address string, port int) *api.ServiceEntry {
	return &api.ServiceEntry{
		Node:    &api.Node{Node: node, Address: address, Datacenter: "dc1"},
		Service: &api.AgentService{ID: service + "-" + node, Service: service, Port: port, Weights: api.AgentWeights{Passing: 1, Warning: 1}},
	}
}

// sidecar is the entry of a sidecar with upstreams.
func sidecar(service, node, address string, upstreams ...api.Upstream) *api.ServiceEntry {
	e := entry(service+"-sidecar-proxy", node, address, 21000)
	e.Service.Kind = api.ServiceKindConnectProxy
	e.Service.Proxy = &api.AgentServiceConnectProxyConfig{
		DestinationServiceName: service, DestinationServiceID: service + "-" + node, Upstreams: upstreams,
	}
	return e
}
