package proxy_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
)

// An operator may end a proxy that has no configuration yet.
func TestQuitBeforeReady(t *testing.T) {
	t.Parallel()
	where := filepath.Join(t.TempDir(), "admin")
	p, err := proxy.New(proxy.Config{
		XDS: xds.Config{Source: source{make(chan *ads.Update), make(chan struct{})}}, Admin: "127.0.0.1:0", AdminAddressPath: where,
		DrainDelay: -1, DrainTimeout: 100 * time.Millisecond,
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var address []byte
	eventually(t, "the admin interface is bound", func() bool {
		address, _ = os.ReadFile(where)
		return len(address) > 0
	})
	resp, err := http.Post("http://"+string(address)+"/quitquitquit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}
