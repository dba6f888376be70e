package proxy

import (
	"context"
	"fmt"
	"net"

	"github.com/serai-net/serai/connect/bootstrap"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// sinks are the statsd servers that the bootstrap file names.
func (p *Proxy) sinks() []*stats.Sink {
	file := p.config.Bootstrap
	if file == nil {
		return nil
	}
	var all []*stats.Sink
	for i := range file.Sinks {
		one := &file.Sinks[i]
		sink := &stats.Sink{
			// A view of its own: what an operator resets goes on being sent.
			View:   &stats.View{Registry: p.view.Registry, Tagger: p.view.Tagger, Matcher: p.view.Matcher},
			Prefix: one.Prefix, Tags: one.Dog(), MaxDatagram: one.MaxDatagram, Stream: one.TCPCluster != "",
			Interval: file.FlushInterval, Dial: p.sinkDial(one), Log: p.log.With("sink", one.Name),
		}
		if sink.Stream {
			sink.MaxDatagram = streamWrite
		}
		all = append(all, sink)
	}
	return all
}

// streamWrite is how many bytes of lines a stream gets at once.
const streamWrite = 16 << 10

// sinkDial connects to a server by datagrams, or to one behind a cluster.
func (p *Proxy) sinkDial(sink *bootstrap.Sink) func(ctx context.Context) (net.Conn, error) {
	if sink.TCPCluster != "" {
		return func(ctx context.Context) (net.Conn, error) {
			cluster := p.clusters.Cluster(sink.TCPCluster)
			if cluster == nil {
				return nil, fmt.Errorf("cluster %q is not known", sink.TCPCluster)
			}
			conn, _, err := cluster.Dial(ctx, wire.Choice{})
			return conn, err
		}
	}
	network := "udp"
	if sink.Address.Socket != "" {
		network = "unixgram"
	}
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, sink.Address.String())
	}
}
