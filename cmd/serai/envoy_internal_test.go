package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFromEnvoy(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, in, out, warning string }{
		{
			"Nomad", "/usr/local/bin/envoy -c /secrets/b.json -l info --concurrency 1 --disable-hot-restart",
			"/usr/local/bin/envoy connect -c /secrets/b.json -l info --concurrency 1 --disable-hot-restart", "",
		},
		{"consul connect envoy", "envoy --config-path /tmp/fifo --disable-hot-restart --drain-strategy immediate -l debug", "envoy connect --config-path /tmp/fifo --disable-hot-restart -l debug", ""},
		{
			"consul-dataplane", "envoy --config-yaml {} --log-format %v --log-level info --disable-hot-restart --concurrency 2 --drain-time-s 30 --drain-strategy immediate",
			"envoy connect --config-yaml {} --log-format %v --log-level info --disable-hot-restart --concurrency 2 --drain-time-s 30", "",
		},
		{"as ourselves", "serai connect -c b.json --base-id 3 --restart-epoch=1 --component-log-level upstream:debug", "serai connect -c b.json", ""},
		{"not known, with a value", "envoy -c b.json --new-thing 5 -l info", "envoy connect -c b.json -l info", "flag --new-thing is not known"},
		{"not known, without", "envoy --new-thing -c b.json", "envoy connect -c b.json", "flag --new-thing is not known"},
		{"not known, whole", "envoy --new-thing=5 -c b.json", "envoy connect -c b.json", "flag --new-thing=5 is not known"},
		{"without a bootstrap", "serai connect -sidecar-for web -new-thing", "serai connect -sidecar-for web -new-thing", ""},
		{"another command", "serai edge -c x", "serai edge -c x", ""},
		{"a question", "/envoy tap -status 5xx -n 1", "/envoy connect tap -status 5xx -n 1", ""},
		{"an argument", "envoy what", "envoy connect what", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var warnings strings.Builder
			got := fromEnvoy(strings.Fields(row.in), &warnings)
			if diff := cmp.Diff(strings.Fields(row.out), got); diff != "" {
				t.Error(diff)
			}
			if (row.warning == "") != (warnings.Len() == 0) || !strings.Contains(warnings.String(), row.warning) {
				t.Errorf("warnings: %q, want %q", warnings.String(), row.warning)
			}
		})
	}
}

func TestEnvoyVersion(t *testing.T) {
	for env, want := range map[string]string{"": "/1.35.8/", "1.34.2": "/1.34.2/", "no": ""} {
		t.Setenv(envEnvoy, env)
		var out strings.Builder
		err := printEnvoyVersion([]string{"envoy", "--version"}, &out)
		if (err != nil) != (want == "") || !strings.Contains(out.String(), want) {
			t.Errorf("%q: %q, %v", env, out.String(), err)
		}
	}
}
