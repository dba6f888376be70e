package host_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/plugins/host"
)

// TestPrepareRefuses shows that each mistake has a message of its own, that what
// is in force stays so, and that nothing is left of what was tried.
func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, quick())
	good := cast(t, "good")
	before := s.one(t, good)
	pid := s.stats(t, "good").Pid

	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	program := filepath.Join(dir, "program")
	for path, mode := range map[string]os.FileMode{text: 0o644, program: 0o755} {
		if err := os.WriteFile(path, []byte("no program\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	const sumOfText = "sha256:5d2dbf2b1ff5d9f6b8dbbb1ff0c1ee1a5b1b3b0bd5dfd7d33c6d1fa2d5dcf1d0"
	use := func(name string, settings map[string]any) host.Use {
		return host.Use{Plugin: name, Settings: settings, Authenticate: true, Pos: "s.hcl:7"}
	}
	file := func(path, sum string) func(*host.Config) {
		return func(c *host.Config) { c.Command, c.Checksum = path, sum }
	}
	for _, row := range []struct {
		name    string
		configs []host.Config
		use     host.Use
		want    string
	}{
		{"no file", []host.Config{cast(t, "x", file("/nowhere/x", good.Checksum))}, use("x", nil), `s.hcl:1: plugin "x": there is no file /nowhere/x`},
		{"folder", []host.Config{cast(t, "x", file(dir, good.Checksum))}, use("x", nil), "is no file that can be run"},
		{"not executable", []host.Config{cast(t, "x", file(text, good.Checksum))}, use("x", nil), "text is not executable: run `chmod +x"},
		{
			"wrong checksum",
			[]host.Config{cast(t, "x", file(good.Command, sumOfText))},
			use("x", nil),
			"the checksum of " + good.Command + " is " + good.Checksum + ", and the configuration pins " + sumOfText + ": if the file is the one you want",
		},
		{"version", []host.Config{cast(t, "version")}, use("version", nil), good.Command + ` speaks version "99" of the protocol, and this Serai version 1: build the plugin`},
		{
			"program",
			[]host.Config{cast(t, "none")},
			use("none", nil),
			good.Command + " is no plugin: it ended with exit status 3 before it said that it is one; on standard error it printed last: I am only a program\nand need a file",
		},
		{"greets", []host.Config{cast(t, "hello")}, use("hello", nil), `is no plugin: it printed "hello, world"; it printed nothing on standard error`},
		{
			"settings",
			[]host.Config{good},
			use("good", map[string]any{"refuse": "keys is missing; write keys = {...}"}),
			`s.hcl:7: plugin "good": it refuses its settings: keys is missing; write keys = {...}`,
		},
		{"settings that are none", []host.Config{good}, use("good", map[string]any{"a": func() {}}), "settings cannot be written as JSON"},
		{"useless", []host.Config{cast(t, "useless")}, use("useless", nil), "the plugin's New returned int, which is neither an Authenticator nor a Transformer"},
		{"cannot", []host.Config{cast(t, "transforms")}, use("transforms", nil), `plugin "transforms" does not authenticate requests`},
		{"unknown", []host.Config{good}, use("god", nil), `s.hcl:7: plugin "god" is not configured; there is "good"`},
		{"none", nil, use("good", nil), `there is none: write a block plugin "NAME" {`},
		{"twice", []host.Config{good, good}, use("good", nil), `plugin "good" is there twice (the other is at s.hcl:1)`},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan, err := s.Prepare(t.Context(), row.configs, []host.Use{row.use})
			if err == nil {
				plan.Abort()
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
			if err := answers(before); err != nil {
				t.Errorf("what was in force: %v", err)
			}
		})
	}
	plan, err := s.Prepare(t.Context(), []host.Config{cast(t, "x", file(program, sumOf(t, program)))}, nil)
	if err == nil {
		plan.Abort()
	}
	if err == nil || !strings.Contains(err.Error(), "is no program for this machine") {
		t.Errorf("a text with x set: got %v", err)
	}
	if stats := s.Stats(); len(stats) != 1 || stats[0].Pid != pid || stats[0].Ends != 0 {
		t.Errorf("stats are %+v", stats)
	}
}

// TestSilent shows that a plugin that hangs while it starts is told from one
// that hangs later, and that none is left.
func TestSilent(t *testing.T) {
	t.Parallel()
	timings := quick()
	timings.Start = 15 * time.Second
	for act, want := range map[string]string{
		"silent": "is no plugin, or hangs: it said nothing within 15s; it printed nothing on standard error",
		"mute":   "hangs: it was not ready within 15s; it printed nothing on standard error",
	} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			pidFile := filepath.Join(t.TempDir(), "pid")
			c := cast(t, act, func(c *host.Config) { c.Env[pidVariable] = pidFile })
			plan, err := open(t, timings).Prepare(t.Context(), []host.Config{c}, nil)
			if err == nil {
				plan.Abort()
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			text, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			if pid, err := strconv.Atoi(string(text)); err != nil || !isGone(pid) {
				t.Errorf("process %s is left", text)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	sum := "sha256:" + strings.Repeat("0a", 32)
	for _, row := range []struct {
		name   string
		config host.Config
		want   string // "" if it is right
	}{
		{"right", host.Config{Name: "a-1_B", Command: "/a", Checksum: sum, Env: map[string]string{"A": "="}, MaxBody: 1 << 20}, ""},
		{"upper case", host.Config{Name: "a", Command: "/a", Checksum: "sha256:" + strings.Repeat("0A", 32)}, ""},
		{"name", host.Config{Name: "a b", Command: "/a", Checksum: sum}, `plugin "a b": the name must be of letters`},
		{"command", host.Config{Name: "a", Checksum: sum}, "command is empty"},
		{"no checksum", host.Config{Name: "a", Command: "/a"}, "checksum is missing; write \"sha256:\" and what `sha256sum /a` prints"},
		{"bare checksum", host.Config{Name: "a", Command: "/a", Checksum: strings.Repeat("0a", 32)}, "checksum is \"0a0a"},
		{"short checksum", host.Config{Name: "a", Command: "/a", Checksum: "sha256:0a"}, `checksum is "sha256:0a"`},
		{"timeout", host.Config{Name: "a", Command: "/a", Checksum: sum, Timeout: time.Hour}, "timeout is 1h0m0s"},
		{"concurrent", host.Config{Name: "a", Command: "/a", Checksum: sum, MaxConcurrent: 1000}, "max_concurrent is 1000; want 1 to 512"},
		{"body", host.Config{Name: "a", Command: "/a", Checksum: sum, MaxBody: 1 << 30}, "max_body is 1073741824 bytes"},
		{"ours", host.Config{Name: "a", Command: "/a", Checksum: sum, Env: map[string]string{"PLUGIN_CLIENT_CERT": ""}}, `env has "PLUGIN_CLIENT_CERT", which Serai itself sets`},
		{"cookie", host.Config{Name: "a", Command: "/a", Checksum: sum, Env: map[string]string{"SERAI_PLUGIN": ""}}, `env has "SERAI_PLUGIN"`},
		{"variable", host.Config{Name: "a", Command: "/a", Checksum: sum, Env: map[string]string{"A=B": ""}}, `env has "A=B", which is no name`},
		{"NUL", host.Config{Name: "a", Command: "/a", Checksum: sum, Env: map[string]string{"A": "\x00"}}, `env "A" has a NUL`},
	} {
		row.config.Pos = "s.hcl:3"
		err := row.config.Validate()
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", row.name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasPrefix(err.Error(), "s.hcl:3: ")):
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}
