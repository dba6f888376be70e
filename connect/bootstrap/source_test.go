package bootstrap_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/bootstrap"
)

const inYAML = `
# what a hand writes
node: {id: web1, cluster: web, locality: {zone: b}}
admin:
  access_log:
    typedConfig: {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", path: /var/log/admin.log}
staticResources:
  clusters:
  - name: local_agent
    loadAssignment:
      endpoints:
      - lbEndpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8502}}}
stats_config:
  stats_tags:
  - {tag_name: local_cluster, fixed_value: web}
  - {tag_name: mine, regex: "^a(.*)$"}
  use_all_default_tags: false
  stats_matcher: {exclusion_list: {patterns: [{prefix: "x."}]}}
stats_flush_interval: 10s
stats_sinks:
- name: envoy.stat_sinks.statsd
  typedConfig:
    "@type": type.googleapis.com/envoy.config.metrics.v3.StatsdSink
    address: {socket_address: {address: 127.0.0.1, port_value: 9125}}
- name: mine
  typed_config: {"@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig"}
`

func TestYAML(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b.yaml")
	if err := os.WriteFile(path, []byte(inYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := bootstrap.Source{Path: path}.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := bootstrap.Stats{
		Tags:          []bootstrap.Tag{{Name: "local_cluster", Fixed: "web", HasFixed: true}, {Name: "mine", Regex: "^a(.*)$"}},
		NoDefaultTags: true, Not: []bootstrap.Pattern{{Prefix: "x."}},
	}
	if diff := cmp.Diff(want, got.Stats); diff != "" {
		t.Error(diff)
	}
	if got.Node.Zone != "b" || got.AdminLog != "/var/log/admin.log" || got.FlushInterval.Seconds() != 10 ||
		len(got.Sinks) != 1 || got.Sinks[0].Address.String() != "127.0.0.1:9125" || got.Sinks[0].Dog() {
		t.Errorf("got %+v", got)
	}
	if len(got.Ignored) != 1 || !strings.Contains(got.Ignored[0], "MetricsServiceConfig") {
		t.Errorf("ignored: %q", got.Ignored)
	}
}

// What is in --config-yaml is merged over the file as protobuf merges.
func TestMerge(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := bootstrap.Source{Path: path, Service: "other", YAML: `
node: {id: second}
staticResources: {clusters: [{name: more}]}
admin: {address: {socket_address: {port_value: 7}}}
`}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got.Node.ID != "second" || got.Node.Cluster != "other" || got.Node.Metadata["nodeName"] != "n" {
		t.Errorf("node: %+v", got.Node)
	}
	if len(got.Static.Clusters) != 4 || string(got.Static.Clusters[3]) != `{"name":"more"}` || len(got.Static.Listeners) != 3 {
		t.Errorf("static: %s", got.Static.Clusters)
	}
	if got.Admin.String() != "127.0.0.2:7" {
		t.Errorf("admin: %s", got.Admin)
	}
	// without a file
	if got, err = (bootstrap.Source{YAML: file}).Read(); err != nil || got.Node.ID != "web1-sidecar-proxy" {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{"a: [": "neither JSON nor YAML", "- a": "neither a JSON object nor", "{a: b": "neither JSON nor YAML"} {
		if _, err := (bootstrap.Source{YAML: text}).Read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzSource(f *testing.F) {
	f.Add(inYAML, file)
	f.Add("a: &a [*a]", "{}")
	f.Add("{node: {id: a}}", "")
	f.Fuzz(func(t *testing.T, text, over string) {
		config, err := bootstrap.Source{YAML: text + "\n" + over}.Read()
		if (config == nil) == (err == nil) {
			t.Errorf("got %v and %v", config, err)
		}
	})
}
