package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
)

// TestConsulAccessLogPlaces has sidecars of both kinds write their access logs where proxy-defaults say, as these change:
// a file, standard error without logs of listeners, and a file in a JSON format of the operator's own.
func TestConsulAccessLogPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	api := w.run(t, "api-1", "api")
	webs := map[string]*instance{}
	for _, kind := range kinds() {
		webs[kind] = w.start(t, kind, w.register(t, "web-"+kind, "web", "api"))
	}
	for _, i := range []*instance{api, webs["serai"], webs["envoy"]} {
		sidecarReady(t, i)
	}
	const format = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %BYTES_SENT% %PROTOCOL%"
	file := func(name string) string { return filepath.Join(w.env.Dir(), name) }
	read := func(path string) func(*instance) string {
		return func(*instance) string {
			text, err := os.ReadFile(path)
			if err != nil {
				return err.Error()
			}
			return string(text)
		}
	}
	for kind, web := range webs { // what is logged before is another line
		eventually(t, kind+" reaches api", func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.url("api", "/"), http.NoBody)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", resp.StatusCode)
			}
			return nil
		})
	}
	for name, place := range map[string]struct {
		logs consulapi.AccessLogsConfig
		read func(*instance) string
	}{
		"file":   {consulapi.AccessLogsConfig{Type: consulapi.FileLogSinkType, Path: file("text.log"), TextFormat: "out " + format}, read(file("text.log"))},
		"stderr": {consulapi.AccessLogsConfig{Type: consulapi.StdErrLogSinkType, DisableListenerLogs: true, TextFormat: "err " + format}, func(i *instance) string { return i.sidecar.Log() }},
		"json": {
			consulapi.AccessLogsConfig{Type: consulapi.FileLogSinkType, Path: file("json.log"), JSONFormat: `{"path":"%REQ(:PATH)%","code":"%RESPONSE_CODE%","of":{"cluster":"%UPSTREAM_CLUSTER%"}}`},
			read(file("json.log")),
		},
	} {
		place.logs.Enabled = true
		must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ProxyConfigEntry{
			Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal, AccessLogs: &place.logs, Config: map[string]any{"protocol": "http"},
		}))
		lines := map[string]string{}
		for kind, web := range webs {
			n := 0
			eventually(t, name+": a line of "+kind, func(ctx context.Context) error {
				n++
				path := fmt.Sprintf("/x/%s-%s-%d.", name, kind, n)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.url("api", path), http.NoBody)
				if err != nil {
					return err
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				_ = resp.Body.Close()
				for line := range strings.Lines(place.read(web)) {
					// Of a file that all write to: what the sidecars of web say of any of these requests.
					if strings.Contains(line, "/x/"+name+"-"+kind) && strings.Contains(line, "api.default") {
						before, rest, _ := strings.Cut(line, "/x/"+name+"-"+kind)
						_, after, _ := strings.Cut(rest, ".")
						lines[kind] = before + "PATH" + after
						return nil
					}
				}
				return fmt.Errorf("none in %.2000s", place.read(web))
			})
		}
		if diff := cmp.Diff(lines["envoy"], lines["serai"]); diff != "" {
			t.Errorf("%s: -envoy +serai:\n%s", name, diff)
		}
		t.Logf("%s: %q", name, lines["envoy"])
	}
}
