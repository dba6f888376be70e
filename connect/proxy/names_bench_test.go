package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/xds/resource"
)

// large is a proxy with n clusters and as many listeners.
func large(tb testing.TB, n int) *data {
	tb.Helper()
	d := newData(tb)
	var clusters, listeners []string
	for i := range n {
		clusters = append(clusters, fmt.Sprintf(`{"name":"service-%d.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul","altStatName":"service-%d","type":"STATIC",
			"connectTimeout":"5s","loadAssignment":{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":9}}}}]}]}}`, i, i))
		listeners = append(listeners, fmt.Sprintf(`{"name":"upstream-%d","address":{"socketAddress":{"address":"127.%d.%d.1","portValue":29911}},"trafficDirection":"OUTBOUND","filterChains":[{"filters":[{
			"name":"envoy.filters.network.tcp_proxy","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
			"statPrefix":"upstream.service-%d","cluster":"service-%d.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul"}}]}]}`, i, 1+i/250, 1+i%250, i, i))
	}
	d.push(tb, resource.ClusterType, nil, clusters...)
	d.push(tb, resource.ListenerType, nil, listeners...)
	return d
}

// nowhere takes what is written.
type nowhere struct{ net.Conn }

func (nowhere) Write(p []byte) (int, error)      { return len(p), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
func (nowhere) Close() error                     { return nil }

// BenchmarkNames is what it costs to read all numbers of a large proxy once: for a
// sink, which does it every few seconds, for the admin interface, and for Prometheus.
func BenchmarkNames(b *testing.B) {
	d := large(b, 1000)
	registry := d.proxy.Registry()
	count := 0
	for range registry.All() {
		count++
	}
	tagger, err := stats.NewTagger(nil, false)
	if err != nil {
		b.Fatal(err)
	}
	view := &stats.View{Registry: registry, Tagger: tagger}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, row := range []struct {
		name string
		read func() error
	}{
		{"sink", func() error {
			sink := &stats.Sink{
				View: view, Tags: true, MaxDatagram: 1400, Interval: time.Hour, Log: slog.New(slog.DiscardHandler),
				Dial: func(context.Context) (net.Conn, error) { return nowhere{}, nil },
			}
			if err := sink.Run(over); err != nil { // which sends once and ends
				return err
			}
			if sink.Failures.Load() > 0 {
				return errors.New("nothing was sent")
			}
			return nil
		}},
		{"text", func() error { return view.Text(io.Discard, stats.Query{}) }},
		{"json", func() error { return view.JSON(io.Discard, stats.Query{}) }},
		{"prometheus", func() error { return view.Prometheus(io.Discard, stats.Query{}) }},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := row.read(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(count), "names")
		})
	}
}
