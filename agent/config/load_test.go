package config_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/serai-net/serai/agent/config"
)

var update = flag.Bool("update", false, "write what the tests got as what they want")

// TestErrors loads each X.hcl and X.json of testdata/*.txtar and compares the
// errors with X.want.
func TestErrors(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			full, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			checkArchive(t, archive)
			if *update {
				if err := os.WriteFile(full, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func checkArchive(t *testing.T, archive *txtar.Archive) {
	t.Helper()
	t.Chdir(t.TempDir())
	wants := map[string]*txtar.File{}
	for i := range archive.Files {
		f := &archive.Files[i]
		if filepath.Ext(f.Name) == ".want" {
			wants[strings.TrimSuffix(f.Name, ".want")] = f
			continue
		}
		if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range archive.Files {
		extension := filepath.Ext(f.Name)
		want := wants[strings.TrimSuffix(f.Name, extension)]
		if (extension != ".hcl" && extension != ".json") || want == nil {
			continue
		}
		_, err := config.Load(f.Name)
		got := ""
		if err != nil {
			got = err.Error() + "\n"
		}
		if *update {
			want.Data = []byte(got)
		}
		if got != string(want.Data) {
			t.Errorf("%s: got\n%s\nwant\n%s", f.Name, got, want.Data)
		}
	}
}

func TestLoadFiles(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	for _, name := range []string{"empty", "locked"} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "big.hcl", strings.Repeat("#", 1<<20+1))
	for _, row := range []struct {
		paths []string
		want  string
	}{
		{nil, "no configuration given; name a file, or a directory with *.hcl files"},
		{[]string{"nothing.hcl", "empty"}, "nothing.hcl: there is no such file or directory; name a file, or a directory with *.hcl files\n" +
			"empty: the directory has no *.hcl or *.json file"},
		{[]string{"big.hcl"}, "big.hcl: the file has 1048577 bytes, the limit is 1048576"},
		{[]string{"/dev/null"}, "/dev/null: this is not a regular file"},
	} {
		_, err := config.Load(row.paths...)
		if err == nil || err.Error() != row.want {
			t.Errorf("%q: %v\nwant %s", row.paths, err, row.want)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("SKIPPED: root can read everything")
	}
	t.Chdir(t.TempDir())
	write(t, "edge.hcl", "")
	if err := os.Chmod("edge.hcl", 0); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load("edge.hcl")
	const want = "edge.hcl: permission denied: the user that runs serai must be able to read it"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// All files of a directory, and of several paths, are one configuration.
func TestLoadDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "conf/a.hcl", "edge {\n  listener \"public\" { address = \":8080\" }\n}")
	write(t, "conf/b.json", `{"edge": {"api": {"orders": {"base_path": "/orders",
		"route": {"all": {"upstream": {"addresses": ["127.0.0.1:1"]}}}}}}}`)
	write(t, "conf/.hidden.hcl", `nonsense`)
	write(t, "conf/readme.txt", `nonsense`)
	write(t, "more.hcl", `edge { service = "gate" }`)
	c, err := config.Load("conf", "more.hcl", "conf/a.hcl")
	if err != nil {
		t.Fatal(err)
	}
	e := c.Edge
	if len(e.Listeners) != 1 || len(e.APIs) != 1 || e.Service != "gate" || e.APIs[0].Routes[0].Upstream.Addresses[0] != "127.0.0.1:1" {
		t.Errorf("%+v", e)
	}
	write(t, "more.hcl", "edge {\n  listener \"public\" { address = \":8081\" }\n}")
	_, err = config.Load("conf", "more.hcl")
	const want = `more.hcl:2: duplicate listener "public"; the first is at conf/a.hcl:2`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestLoadValues(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("SERAI_TEST_KEY", "from the environment")
	write(t, "conf/edge.hcl", `
consul {
  address    = "127.0.0.1:${1 + 8499}"
  token_file = "token"
}
log { level = "debug" }
edge {
  drain_delay       = "0s"
  advertise_address = "192.0.2.1"
  trusted_proxies   = ["10.0.0.0/8", "::1/128"]
  listener "public" {
    address         = "localhost:8080"
    max_header_size = "32KiB"
    idle_timeout    = "1m30s"
    tls {
      certificate_file = "tls/site.pem"
      key_file         = "/etc/site.key"
    }
  }
  listener "six" { address = "[::1]:8081" }
  consumer "acme" {
    metadata = { team = "x" }
    key "a" { key = env("SERAI_TEST_KEY") }
    key "b" { key = env("SERAI_TEST_UNSET", "otherwise") }
    key "c" { key = file("key.txt") }
    key "d" {
      key = <<-END
        from a heredoc
      END
    }
  }
  api "all" {
    route "all" {
      timeout = "250ms"
      headers = { x-version = "2", "x-other" = "3" }
      upstream { addresses = ["127.0.0.1:1"] }
    }
  }
}
`)
	write(t, "conf/key.txt", "from a file\n")
	c, err := config.Load("conf")
	if err != nil {
		t.Fatal(err)
	}
	l, a := c.Edge.Listeners[0], c.Edge.APIs[0]
	keys := c.Edge.Consumers[0].Keys
	for _, row := range []struct {
		name      string
		got, want any
	}{
		{"consul.address", c.Consul.Address, "127.0.0.1:8500"},
		{"consul.token_file", c.Consul.TokenFile, "conf/token"},
		{"log.level", c.Log.Level.String(), "DEBUG"},
		{"drain_delay", *c.Edge.DrainDelay, time.Duration(0)},
		{"advertise_address", c.Edge.AdvertiseAddress.String(), "192.0.2.1"},
		{"trusted_proxies", c.Edge.TrustedProxies[1].String(), "::1/128"},
		{"address", l.Address.String(), "127.0.0.1:8080"},
		{"max_header_size", l.MaxHeaderSize, 32 << 10},
		{"idle_timeout", l.IdleTimeout, 90 * time.Second},
		{"certificate_file", l.TLS.CertificateFile, "conf/tls/site.pem"},
		{"key_file", l.TLS.KeyFile, "/etc/site.key"},
		{"six", c.Edge.Listeners[1].Address.String(), "[::1]:8081"},
		{"metadata", c.Edge.Consumers[0].Metadata["team"], "x"},
		{"key a", keys[0].Key, "from the environment"},
		{"key b", keys[1].Key, "otherwise"},
		{"key c", keys[2].Key, "from a file\n"},
		{"key d", keys[3].Key, "from a heredoc\n"},
		{"timeout", *a.Routes[0].Timeout, 250 * time.Millisecond},
		{"headers", a.Routes[0].Headers["x-version"], "2"},
		{"position of listener", l.Pos.At(""), "conf/edge.hcl:11"},
		{"position of idle_timeout", l.Pos.At("idle_timeout"), "conf/edge.hcl:14"},
		{"position of key", keys[0].Pos, "conf/edge.hcl:23"},
	} {
		if row.got != row.want {
			t.Errorf("%s is %v, want %v", row.name, row.got, row.want)
		}
	}
}

// The example has every block and argument that there is.
func TestExample(t *testing.T) {
	c, err := config.Load("testdata/example.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Edge.APIs); n != 3 || !c.Edge.NeedsConsul() {
		t.Errorf("%d apis", n)
	}
	if one := c.Edge.Plugins[0]; one.Command != "testdata/plugins/hmac-auth" || one.MaxBody != 64<<10 || one.Env["TZ"] != "UTC" {
		t.Errorf("plugin %+v", one)
	}
	want := map[string]any{"request": []any{map[string]any{"rename": "x-tenant", "to": "x-org"}}}
	if diff := cmp.Diff(want, c.Edge.APIs[0].Routes[0].Plugins[0].Settings); diff != "" {
		t.Errorf("settings: %s", diff)
	}
	if c.DNS == nil || len(c.DNS.Listeners) != 2 || c.DNS.Forwards[1].Resolvers[1].String() != "10.0.0.3:53" || c.DNS.UDPSize != 1232 {
		t.Errorf("dns is %+v", c.DNS)
	}
	if got := c.Edge.Listeners[1].TLS.KeyFile; got != "testdata/tls/site.key" {
		t.Errorf("key_file is %q", got)
	}
}

func TestErrorsShowTheirSource(t *testing.T) {
	_, err := config.Parse("edge.hcl", []byte("edge {\n\tlisten \"x\" {}\n}\n"))
	var errs config.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("%T: %v", err, err)
	}
	var out bytes.Buffer
	if err := errs.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	const want = "edge.hcl:2,2-8: error: Unsupported block type in edge: blocks of type \"listen\" are not expected here. Did you mean \"listener\"?\n" +
		"  2 | \tlisten \"x\" {}\n" +
		"    | \t^^^^^^\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := errs.Write(&out, true); err != nil || !strings.Contains(out.String(), "\x1b[31m") {
		t.Errorf("no colour: %q, %v", out.String(), err)
	}
}

func FuzzLoad(f *testing.F) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if extension := filepath.Ext(file.Name); extension != ".want" {
				f.Add(file.Data, extension == ".json")
			}
		}
	}
	f.Add([]byte("edge { service = 1e99999999 }"), false)
	f.Fuzz(func(t *testing.T, data []byte, json bool) {
		name := "edge.hcl"
		if json {
			name = "edge.json"
		}
		c, err := config.Parse(name, data)
		if (c == nil) == (err == nil) {
			t.Errorf("%v and %v", c, err)
		}
		var errs config.Errors
		if err != nil && (!errors.As(err, &errs) || len(errs) == 0) {
			t.Errorf("%T: %v", err, err)
		}
		if err := errs.Write(&bytes.Buffer{}, true); err != nil {
			t.Error(err)
		}
	})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
