package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// source is a control plane that sends what it is told, and then says so.
type source struct {
	updates chan *ads.Update
	taken   chan struct{}
}

// Run implements [xds.Source].
func (s source) Run(ctx context.Context, h ads.Handler) error {
	h.Up()
	for {
		select {
		case u := <-s.updates:
			if err := h.Update(u); err != nil {
				return err
			}
			s.taken <- struct{}{}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// data is a data plane under test.
type data struct {
	source source
	proxy  *proxy.Proxy
	log    *journal
}

// journal is what was logged.
type journal struct {
	mu   sync.Mutex // guards:
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// newData runs a proxy until the test ends. Chains that are gone end soon.
func newData(tb testing.TB) *data {
	tb.Helper()
	d := &data{source: source{make(chan *ads.Update), make(chan struct{})}, log: &journal{}}
	var err error
	d.proxy, err = proxy.New(proxy.Config{
		XDS: xds.Config{Source: d.source}, DrainDelay: -1, DrainTimeout: 100 * time.Millisecond,
		Listen: listen.Config{ChainDrain: 50 * time.Millisecond},
	}, nil, slog.New(slog.NewTextHandler(d.log, nil)))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.proxy.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return d
}

// push sends resources, each in JSON, and takes others away by their names.
func (d *data) push(tb testing.TB, typ string, removed []string, resources ...string) {
	tb.Helper()
	u := &ads.Update{Type: typ, Removed: removed}
	for _, text := range resources {
		name, body, err := resource.FromJSON(typ, []byte(text))
		if err != nil {
			tb.Fatalf("%v in %s", err, text)
		}
		u.Resources = append(u.Resources, ads.Resource{Name: name, Version: "1", Body: body})
	}
	d.send(tb, u)
}

func (d *data) send(tb testing.TB, u *ads.Update) {
	tb.Helper()
	select {
	case d.source.updates <- u:
		<-d.source.taken
	case <-time.After(time.Minute):
		tb.Fatal("the proxy takes no update")
	}
}

// clusters are static, by name and address.
func (d *data) clusters(t *testing.T, clusters map[string]string) {
	t.Helper()
	var all []string
	for name, address := range clusters {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf(`{"name":%q,"type":"STATIC","load_assignment":{"cluster_name":%q,"endpoints":[{"lb_endpoints":[
			{"endpoint":{"address":{"socket_address":{"address":%q,"port_value":%s}}}}]}]}}`, name, name, host, port))
	}
	d.push(t, resource.ClusterType, nil, all...)
}

// listener is one in JSON, with chains as in filter_chains.
func listener(name, address, more string, chains ...string) string {
	host, port, _ := strings.Cut(address, ":")
	return fmt.Sprintf(`{"name":%q,"address":{"socket_address":{"address":%q,"port_value":%s}},"filter_chains":[%s]%s}`,
		name, host, port, strings.Join(chains, ","), more)
}

const types = "type.googleapis.com/envoy.extensions.filters."

// tcpChain is one that ends in a cluster.
func tcpChain(match, cluster string, before ...string) string {
	filters := append(before, fmt.Sprintf(`{"name":"t","typed_config":{"@type":"%snetwork.tcp_proxy.v3.TcpProxy","stat_prefix":"to.%s","cluster":%q}}`, types, cluster, cluster))
	return fmt.Sprintf(`{"filter_chain_match":{%s},"filters":[%s]}`, match, strings.Join(filters, ","))
}

// freeHosts counts the addresses that freeAddress has given.
var freeHosts atomic.Uint32

// freeAddress is one that was free a moment ago, on a host of its own: no other test, nor
// a connection that is made meanwhile, is given its port.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := freeHosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.12.%d.%d:0", n/250, 1+n%250))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// says is an application that sends its name and then what it gets.
func says(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveAt(t, l, func(conn net.Conn) { echo(conn, name) })
}

// serveAt is an application at a listener, until the test ends; serve need not close the
// connection.
func serveAt(t *testing.T, l net.Listener, serve func(conn net.Conn)) (address string) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// echo sends a word, and then back what it gets.
func echo(conn net.Conn, word string) {
	io.WriteString(conn, word) //nolint:errcheck // the test will see
	io.Copy(conn, conn)        //nolint:errcheck // the test will see
}

// connect dials until somebody listens, sends a word, and expects name and the word.
func connect(t *testing.T, address, name string) net.Conn {
	t.Helper()
	conn := reach(t, address)
	expect(t, conn, "word", name+"word")
	return conn
}

func reach(t *testing.T, address string) (conn net.Conn) {
	t.Helper()
	eventually(t, "somebody listens at "+address, func() bool {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func expect(t *testing.T, conn net.Conn, word, want string) {
	t.Helper()
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatalf("send %q: %v", word, err)
	}
	back := make([]byte, len(want))
	if n, err := io.ReadFull(conn, back); err != nil || string(back) != want {
		t.Fatalf("got %q, %v, want %q", back[:n], err, want)
	}
}

// closes expects the other side to close the connection.
func closes(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection is open")
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// stat is one of the proxy's counters.
func (d *data) stat(name string) int64 {
	for key, value := range d.proxy.Stats() {
		if key == name {
			return value
		}
	}
	return -1
}
