package edge_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/serai-net/serai/edge"
	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/consumer"
	"github.com/serai-net/serai/edge/extension"
	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/host"
)

// pluginSwitch is the variable that makes TestPluginProcess a plugin.
const pluginSwitch = "SERAI_TEST_EDGE_PLUGIN"

// TestPluginProcess is no test: it is the plugin of the others.
func TestPluginProcess(_ *testing.T) {
	if os.Getenv(pluginSwitch) != "" {
		plugins.Serve(plugins.Plugin{Name: "stamp", Version: "1", New: newStamp})
	}
}

// stamp sets the field x-stamp to its setting.
type stamp struct{ text string }

func newStamp(settings map[string]any, _ *slog.Logger) (any, error) {
	text, ok := settings["text"].(string)
	if !ok {
		return nil, errors.New("text is missing")
	}
	return stamp{text}, nil
}

func (s stamp) Authenticate(_ context.Context, r *plugins.Request) (*plugins.Identity, error) {
	return &plugins.Identity{Consumer: r.Get("x-user"), Remove: []string{"x-user"}}, nil
}

func (s stamp) TransformRequest(_ context.Context, r *plugins.Request) (*plugins.RequestChange, error) {
	if r.Get("x-fail") != "" {
		return nil, errors.New("as you like")
	}
	stamps := r.Get("x-stamp") + s.text
	return &plugins.RequestChange{Path: r.Path + s.text, HeaderChange: plugins.HeaderChange{Set: []plugins.Field{{Name: "x-stamp", Value: stamps}}}}, nil
}

func (stamp) TransformResponse(context.Context, *plugins.Request, *plugins.Response) (*plugins.ResponseChange, error) {
	return nil, nil //nolint:nilnil // no change
}

// stampConfig is the test binary as the plugin.
func stampConfig(t *testing.T) host.Config {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, binary); err != nil {
		t.Fatal(err)
	}
	return host.Config{
		Name: "stamp", Command: file, Args: []string{"-test.run=^TestPluginProcess$"}, Env: map[string]string{pluginSwitch: "1"},
		Checksum: "sha256:" + hex.EncodeToString(sum.Sum(nil)),
	}
}

func use(text string) extension.Config {
	return extension.Config{Name: "stamp", Settings: map[string]any{"text": text}}
}

// The order of plugins, what they may change, and what is counted.
func TestPlugins(t *testing.T) {
	a := apiOf("a", "/base", nil, "/a*")
	a.StripBasePath = true
	a.Authenticate = &auth.Config{Kind: "plugin", Plugin: "stamp", Settings: map[string]any{"text": ""}}
	a.Plugins = []extension.Config{use("1"), use("2")}
	a.Routes[0].Plugins = []extension.Config{use("3")}
	a.Routes[0].RequestHeaders = &edge.HeaderEdit{Set: map[string]string{"x-stamp": "0"}}
	c := edge.Config{
		Listeners: []edge.Listener{listener()}, APIs: []edge.API{a},
		Consumers: []consumer.Config{{Name: "acme", Plan: "gold"}}, Plugins: []host.Config{stampConfig(t)},
	}
	g := newGateway(t, c)
	t.Cleanup(g.Close)

	req := request("GET /base/a", "x-user: acme", "x-stamp: client's")
	x, fault := serve(t, g, req)
	if fault.Status != 503 || x.Consumer != "acme" || req.Path != "/a123" || req.Header.Joined("x-stamp") != "0123" ||
		req.Header.Has("x-user") || req.Header.Get("x-serai-plan") != "gold" {
		t.Errorf("%d, consumer %q, path %s, stamps %s", fault.Status, x.Consumer, req.Path, req.Header.Joined("x-stamp"))
	}
	if _, fault := serve(t, g, request("GET /base/a", "x-user: mallory")); fault.Status != 403 {
		t.Errorf("an unknown consumer: %d", fault.Status)
	}
	if x, fault := serve(t, g, request("GET /base/a", "x-user: acme", "x-fail: yes")); fault.Status != 503 || fault.Flag.String() != "PLG" || x.Consumer != "acme" {
		t.Errorf("a failure: %d %s", fault.Status, fault.Flag)
	}

	bad := c
	bad.APIs = []edge.API{a}
	bad.APIs[0].Plugins = []extension.Config{{Name: "stamp"}}
	if err := g.Reload(bad); err == nil || !strings.Contains(err.Error(), "text is missing") {
		t.Errorf("settings that the plugin refuses: %v", err)
	}
	good := c
	good.APIs = []edge.API{a}
	good.APIs[0].Plugins = []extension.Config{use("4")}
	pid := g.PluginStats()[0].Pid
	if err := g.Reload(good); err != nil {
		t.Fatal(err)
	}
	req = request("GET /base/a", "x-user: acme")
	if _, fault := serve(t, g, req); fault.Status != 503 || req.Header.Joined("x-stamp") != "043" {
		t.Errorf("after a reload the stamps are %s", req.Header.Joined("x-stamp"))
	}
	stats := g.PluginStats()
	if len(stats) != 1 || stats[0].Pid != pid || stats[0].Starts != 1 {
		t.Errorf("%+v, and before the process was %d", stats, pid)
	}
	counted := maps.Collect(stats[0].All())
	for name, want := range map[string]int64{"up": 1, "failed_plugin": 1, "failed_closed": 1, "failed_open": 0, "unknown_consumers": 1, "calls_active": 0} {
		if counted[name] != want {
			t.Errorf("%s is %d, want %d", name, counted[name], want)
		}
	}
}
