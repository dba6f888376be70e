package proxy_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// routes sends route tables that answer everything with a status, by their names. They
// are no static resources, so they are put together by hand: field by field, each with
// its length.
func (d *data) routes(t *testing.T, tables map[string]int) {
	t.Helper()
	field := func(number byte, parts ...[]byte) []byte {
		body := bytes.Join(parts, nil)
		return append([]byte{number<<3 | 2, byte(len(body))}, body...)
	}
	u := &ads.Update{Type: resource.RouteType}
	for name, status := range tables {
		answer := field(7, binary.AppendUvarint([]byte{1 << 3}, uint64(status)))                                          // direct_response
		host := field(2, field(1, []byte("v")), field(2, []byte("*")), field(3, field(1, field(1, []byte("/"))), answer)) // name, domains, routes
		u.Resources = append(u.Resources, ads.Resource{Name: name, Version: "1", Body: append(field(1, []byte(name)), host...)})
	}
	d.send(t, u)
}

// routed is a chain that serves HTTP by a route table of that name; more are fields of
// its connection manager, with a comma in front, filters its HTTP filters.
func routed(table, more string, filters ...string) string {
	filters = append(filters, `{"name":"router","typed_config":{"@type":"`+types+`http.router.v3.Router"}}`)
	return fmt.Sprintf(`{"filters":[{"name":"h","typed_config":{"@type":"%snetwork.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"s",
		"rds":{"route_config_name":%q,"config_source":{"ads":{}}},"http_filters":[%s]%s}}]}`, types, table, strings.Join(filters, ","), more)
}

func ensure(t *testing.T, address string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s answers %d", address, want), func() bool { return status(t, address) == want })
}

// What has not changed is not compiled again, and what has is.
func TestUnchangedListenersStand(t *testing.T) {
	t.Parallel()
	d := newData(t)
	app := says(t, "app")
	d.clusters(t, map[string]string{"app": app})
	d.routes(t, map[string]int{"one": 201, "two": 202})
	one, two, raw, twice := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	rawListener := func(chains ...string) string { return listener("raw", raw, "", chains...) }
	steps := []struct {
		what string
		do   func()
		want int64 // how many listeners are compiled
	}{
		{"all are new", func() {
			d.push(t, resource.ListenerType, nil, listener("one", one, "", routed("one", "")), listener("two", two, "", routed("two", "")), rawListener(tcpChain("", "app")))
			ensure(t, one, 201)
			ensure(t, two, 202)
		}, 3},
		{"a cluster comes", func() { d.clusters(t, map[string]string{"other": app}) }, 0},
		{"the same again", func() { d.push(t, resource.ListenerType, nil, rawListener(tcpChain("", "app"))) }, 0},
		{"a route table changes", func() {
			d.routes(t, map[string]int{"one": 203})
			ensure(t, one, 203)
			ensure(t, two, 202)
		}, 1},
		{"a listener changes", func() {
			d.push(t, resource.ListenerType, nil, listener("two", two, "", routed("one", "")))
			ensure(t, two, 203)
		}, 1},
		{"a table that two name changes", func() {
			d.routes(t, map[string]int{"one": 204})
			ensure(t, one, 204)
			ensure(t, two, 204)
		}, 2},
		{"a table that nobody names changes", func() { d.routes(t, map[string]int{"three": 205}) }, 0},
		{"one is refused", func() {
			d.push(t, resource.ListenerType, nil, listener("twice", twice, "", tcpChain("", "app"), tcpChain("", "app")))
			closes(t, reach(t, twice))
		}, 1},
		{"it is tried again each time", func() { d.clusters(t, map[string]string{"third": app}) }, 1},
		{"it is made well", func() {
			d.push(t, resource.ListenerType, nil, listener("twice", twice, "", tcpChain("", "app")))
			eventually(t, "it serves", func() bool { return serves(t, twice, "app") })
		}, 1},
		{"one goes", func() { d.push(t, resource.ListenerType, []string{"twice"}) }, 0},
		{"it comes again", func() {
			d.push(t, resource.ListenerType, nil, listener("twice", twice, "", tcpChain("", "app")))
			eventually(t, "it serves", func() bool { return serves(t, twice, "app") })
		}, 1},
		{"one wants the address of another", func() {
			d.push(t, resource.ListenerType, nil, listener("two", one, "", routed("two", "")))
			ensure(t, one, 204)
			ensure(t, two, 204)
		}, 0},
		{"it goes on where it was", func() {
			d.routes(t, map[string]int{"one": 206})
			ensure(t, one, 206)
			ensure(t, two, 206)
		}, 2},
		{"it goes back", func() {
			d.push(t, resource.ListenerType, nil, listener("two", two, "", routed("two", "")))
			ensure(t, two, 202)
			ensure(t, one, 206)
		}, 1},
		{"the intentions of one change", func() {
			d.push(t, resource.ListenerType, nil, rawListener(tcpChain("", "app", fmt.Sprintf(rbacTCP, "{}"))))
		}, 1},
	}
	var living net.Conn // through all but the last
	for i, step := range steps {
		before := d.proxy.Compiled()
		step.do()
		if got := d.proxy.Compiled() - before; got != step.want {
			t.Errorf("%s: %d listeners compiled, not %d", step.what, got, step.want)
		}
		switch i {
		case 0:
			living = connect(t, raw, "app")
		case len(steps) - 1:
			closes(t, living)
		default:
			expect(t, living, "still", "still")
		}
	}
}

// serves tells whether an application answers there.
func serves(t *testing.T, address, name string) bool {
	t.Helper()
	conn := reach(t, address)
	defer conn.Close()
	back := make([]byte, len(name))
	n, err := conn.Read(back)
	return err == nil && string(back[:n]) == name
}

// What a chain reads of files is read again with every update: a script, and a log
// that could not be opened.
func TestFilesOfUnchangedListeners(t *testing.T) {
	t.Parallel()
	d := newData(t)
	app := says(t, "app")
	d.clusters(t, map[string]string{"app": app})
	d.routes(t, map[string]int{"r": 201})
	dir := t.TempDir()
	script, log := filepath.Join(dir, "script.lua"), filepath.Join(dir, "logs", "access.log")
	scripted, logged := freeAddress(t), freeAddress(t)
	write := func(status int) {
		t.Helper()
		code := fmt.Sprintf("function envoy_on_request(h) h:respond({[':status'] = '%d'}, '') end", status)
		if err := os.WriteFile(script, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.push(t, resource.ListenerType, nil,
		listener("scripted", scripted, "", routed("r", "", fmt.Sprintf(`{"name":"lua","typed_config":{"@type":"%shttp.lua.v3.Lua","default_source_code":{"filename":%q}}}`, types, script))),
		listener("logged", logged, "", routed("r", fmt.Sprintf(`,"access_log":[{"name":"f","typed_config":{
			"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":%q,
			"log_format":{"text_format_source":{"inline_string":"%%RESPONSE_CODE%%\n"}}}}]`, log))))
	ensure(t, logged, 201)
	if got := status(t, scripted); got != 0 {
		t.Errorf("a chain without its script answers %d", got)
	}
	write(418)
	if err := os.Mkdir(filepath.Dir(log), 0o700); err != nil {
		t.Fatal(err)
	}
	before := d.proxy.Compiled()
	other := func(name string) { t.Helper(); d.clusters(t, map[string]string{name: app}) }
	other("one")
	ensure(t, scripted, 418)
	write(419)
	other("two")
	ensure(t, scripted, 419)
	other("three")
	if got := d.proxy.Compiled() - before; got != 4 { // the script each time, and the log once
		t.Errorf("%d listeners compiled, not 4", got)
	}
	ensure(t, logged, 201)
	eventually(t, "the log is written to", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), "201\n")
	})
}

// BenchmarkPrepare is a change of one listener among 1,000, or of none.
func BenchmarkPrepare(b *testing.B) {
	route := func(name string) *mesh.Route {
		return &mesh.Route{Name: name, VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}, Rules: []*mesh.Rule{
			{Match: mesh.Match{Prefix: "/"}, Targets: []mesh.Target{{Cluster: name, Weight: 1}}, Retry: &mesh.Retry{}},
		}}}}
	}
	upstream := func(i int) *mesh.Listener {
		name := fmt.Sprintf("service-%d", i)
		return &mesh.Listener{
			Name: name, Direction: mesh.Outbound, Unbound: true,
			Address: mesh.Address{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(10_000+i))},
			Default: &mesh.FilterChain{HTTP: &mesh.HTTP{StatPrefix: "upstream." + name, Route: route(name), AccessLogs: []*mesh.AccessLog{{Path: os.DevNull}}}},
		}
	}
	p, err := proxy.New(proxy.Config{XDS: xds.Config{Source: source{}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name    string
		changed int
	}{{"none", 0}, {"one", 1}, {"all", 1000}} {
		b.Run(row.name, func(b *testing.B) {
			now := &mesh.Snapshot{Listeners: map[string]*mesh.Listener{}}
			for i := range 1000 {
				l := upstream(i)
				now.Listeners[l.Name] = l
			}
			if err := p.Use(now); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range row.changed {
					l := upstream(i)
					now.Listeners[l.Name] = l
				}
				b.StartTimer()
				if err := p.Use(now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
