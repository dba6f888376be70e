package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// later is what a client hears if a plugin fails and the route is closed.
const later = "this request cannot be handled now"

// TestPluginSigned asks an API that hmac-auth guards.
func TestPluginSigned(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := plainApp(t, env, "app")
	plugin := pinned(t, "hmac-auth", bundled(t, "hmac-auth"), "    max_body = \"16KiB\"\n")
	g := startPluginGate(t, env, plugin+signedAPI(app, ""))

	first := g.signed(t, "/headers?a=%20b", signing{nonce: "one"})
	got := first()
	wantStatus(t, got, http.StatusOK)
	saw := upstreamSaw(t, got)
	if saw.Header.Get("X-Serai-Consumer") != "bob" || saw.Header.Get("X-Serai-Plan") != "gold" || saw.Header.Get("Signature") != "" || saw.Path != "/headers?a=%20b" {
		t.Errorf("the upstream saw %+v", saw)
	}
	const again = "this nonce was used before"
	wantAnswer(t, first(), http.StatusUnauthorized, again)
	wantAnswer(t, g.signed(t, "/", signing{nonce: "one"})(), http.StatusUnauthorized, again)

	for name, c := range map[string]struct {
		signing
		path   string
		status int
		text   string
	}{
		"right":           {signing{}, "/", http.StatusOK, "app"},
		"wrong secret":    {signing{secret: "what somebody has guessed"}, "/", http.StatusUnauthorized, "the signature does not match"},
		"unknown key":     {signing{keyID: "k2"}, "/", http.StatusUnauthorized, "the signature does not match"},
		"late":            {signing{age: time.Minute}, "/", http.StatusUnauthorized, "look at the clock"},
		"early":           {signing{age: -time.Minute}, "/", http.StatusUnauthorized, "look at the clock"},
		"another path":    {signing{claim: "/signed/"}, "/headers", http.StatusUnauthorized, "the signature does not match"},
		"another query":   {signing{claim: "/signed/?a=1"}, "/?a=2", http.StatusUnauthorized, "the signature does not match"},
		"body":            {signing{body: "hello"}, "/echo", http.StatusOK, "hello"},
		"largest body":    {signing{body: strings.Repeat("x", 16<<10)}, "/echo", http.StatusOK, "xxx"},
		"too large body":  {signing{body: strings.Repeat("x", 16<<10+1)}, "/echo", http.StatusRequestEntityTooLarge, "at most 16384 bytes"},
		"another body":    {signing{body: "hello", digestOf: "hullo"}, "/echo", http.StatusUnauthorized, "the body is not what Content-Digest says"},
		"in a dot's path": {signing{claim: "/signed/headers"}, "/x/../headers", http.StatusOK, "bob"},
	} {
		t.Run(name, func(t *testing.T) { wantAnswer(t, g.signed(t, c.path, c.signing)(), c.status, c.text) })
	}
	none := ask(t, http.MethodGet, g.url("/signed/"), http.NoBody)
	wantAnswer(t, none, http.StatusUnauthorized, "a signature is needed")
	if got := none.header.Get("Www-Authenticate"); got != `Signature realm="signed"` {
		t.Errorf("www-authenticate: %s", got)
	}
	t.Run("by the script", func(t *testing.T) { testSignedCurl(t, g) })
	t.Run("reloaded", func(t *testing.T) { testReloadedPlugin(t, g, app, plugin, first) })
	pids := g.pids(t, "hmac-auth")
	must(t, g.process.Signal(syscall.SIGTERM))
	exits(t, g.process, patience)
	gone(t, pids...)
	g.noFiles(t)
}

// testSignedCurl signs by the script that users are shown.
func testSignedCurl(t *testing.T, g *pluginGate) {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			harness.Skip(t, "no "+tool+" here")
		}
	}
	root, err := harness.Root()
	must(t, err)
	for _, c := range []struct{ method, path, body, secret, want string }{
		{"GET", "/signed/", "", bobSecret, "app"},
		{"GET", "/signed/?a=%20b&c", "", bobSecret, "app"},
		{"POST", "/signed/echo", `{"a": "b c"}`, bobSecret, `{"a": "b c"}`},
		{"GET", "/signed/", "", "what somebody has guessed", "the signature does not match\n"},
	} {
		cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(root, "plugins", "bundled", "hmac-auth", "signed-curl"), c.method, g.url(c.path), c.body)
		cmd.Env = append(os.Environ(), "KEY_ID=k1", "SECRET="+c.secret)
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("%s %s: %v, %s, want %s", c.method, c.path, err, out, c.want)
		}
	}
}

// testReloadedPlugin reloads: the process lives on and knows what it has seen, and what is wrong changes nothing.
func testReloadedPlugin(t *testing.T, g *pluginGate, app, plugin string, first func(...func(*http.Request)) *answer) {
	t.Helper()
	for _, c := range []struct{ blocks, text string }{
		{plugin + signedAPI(app, `clock_skw = "1s"`), "is not known; there is clock_skew"},
		{plugin + signedAPI(app, `clock_skew = "1h"`), `clock_skew is 1h; want a time from`},
		{strings.Replace(plugin, "sha256:", "sha256:0", 1) + signedAPI(app, ""), "checksum is"},
		{strings.Replace(plugin, `max_body = "16KiB"`, `args = ["x"]`, 1) + "  plugin \"more\" {\n    command = \"/nowhere\"\n    checksum = \"sha256:" +
			strings.Repeat("0", 64) + "\"\n  }\n" + signedAPI(app, ""), "there is no file /nowhere"},
	} {
		g.reloads(t, c.blocks, c.text)
		wantStatus(t, g.signed(t, "/", signing{})(), http.StatusOK)
	}
	g.reloads(t, plugin+signedAPI(app, `forward_signature = true`), "configuration reloaded")
	if pids := g.pids(t, "hmac-auth"); len(pids) > 1 && syscall.Kill(pids[0], 0) != nil {
		t.Errorf("the plugin was started anew: %v", pids)
	}
	got := g.signed(t, "/headers", signing{})()
	wantStatus(t, got, http.StatusOK)
	if upstreamSaw(t, got).Header.Get("Signature") == "" {
		t.Error("the new settings are not in force")
	}
	wantAnswer(t, first(), http.StatusUnauthorized, "this nonce was used before")
}

// TestPluginMapped asks a route whose header fields header-map changes, while the configuration is reloaded.
func TestPluginMapped(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := plainApp(t, env, "app")
	plugin := pinned(t, "header-map", bundled(t, "header-map"), "")
	api := func(value string) string {
		return transformAPI("mapped", app, `"header-map" {
        settings = {
          request  = [{ rename = "x-tenant", to = "x-org" }, { set = "x-env", value = "`+value+`" }, { remove = "cookie" }]
          response = [{ set = "x-gate", value = "`+value+`" }, { remove = "date" }]
        }
      }`)
	}
	g := startPluginGate(t, env, plugin+api("one"))
	got := get(t, g.url("/mapped/headers"), with("X-Tenant", "acme"), with("Cookie", "a=b"), with("X-Serai-Consumer", "root"))
	wantStatus(t, got, http.StatusOK)
	saw := upstreamSaw(t, got).Header
	if saw.Get("X-Org") != "acme" || saw.Get("X-Env") != "one" || saw.Get("X-Tenant")+saw.Get("Cookie")+saw.Get("X-Serai-Consumer") != "" {
		t.Errorf("the upstream saw %v", saw)
	}
	if got.header.Get("X-Gate") != "one" {
		t.Errorf("the client sees %v", got.header)
	}
	loads := map[string]*harness.Load{
		"mapped":       load(t, g.url("/mapped")),
		"slow answers": loadBy(t, strict(t), g.url("/mapped/slow/300ms"), 2),
	}
	for _, value := range []string{"two", "three", "one", "four"} {
		g.reloads(t, plugin+api(value), "configuration reloaded")
		if got := get(t, g.url("/mapped/headers")); got.header.Get("X-Gate") != value || upstreamSaw(t, got).Header.Get("X-Env") != value {
			t.Errorf("the settings %s are not in force: %v %s", value, got.header, got.body)
		}
	}
	// another Config is another process, and still nothing is lost
	before := g.pids(t, "header-map")
	g.reloads(t, strings.Replace(plugin, "  }\n", "    max_concurrent = 8\n  }\n", 1)+api("one"), "configuration reloaded")
	pause(t, 300*time.Millisecond)
	clean(t, loads)
	if after := g.pids(t, "header-map"); len(before) != 1 || len(after) != 2 {
		t.Errorf("processes %v, and after a change %v", before, after)
	}
}

// TestPluginKilled kills a plugin under load, again and again.
func TestPluginKilled(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := plainApp(t, env, "app")
	rules := `{ response = [{ set = "x-gate", value = "here" }] }`
	g := startPluginGate(t, env, pinned(t, "header-map", bundled(t, "header-map"), "")+
		transformAPI("closed", app, `"header-map" { settings = `+rules+` }`)+
		transformAPI("open", app, "\"header-map\" {\n fail_mode = \"open\"\n settings = "+rules+"\n }"))
	closed := harness.StartLoad(t.Context(), harness.LoadConfig{Client: strict(t), URL: g.url("/closed")})
	open := load(t, g.url("/open"))
	for range 3 {
		pids := g.pids(t, "header-map")
		must(t, syscall.Kill(pids[len(pids)-1], syscall.SIGKILL))
		eventually(t, "another process", func(context.Context) error {
			if len(g.pids(t, "header-map")) == len(pids) {
				return errNotYet
			}
			return nil
		})
		waitStatus(t, g.url("/closed"), http.StatusOK)
	}
	clean(t, map[string]*harness.Load{"open": open})
	report := closed.Stop()
	t.Logf("closed: %v", report)
	down := report.Status[http.StatusServiceUnavailable]
	if len(report.Errors) > 0 || down == 0 || report.Status[http.StatusOK]+down != report.Requests {
		t.Errorf("closed: want 200 and 503 only, and some of each: %v", report)
	}
	for _, f := range report.Failures {
		if !strings.Contains(f.Text, later) {
			t.Errorf("status %d: %s", f.Status, f.Text)
		}
	}
	for _, api := range []string{"/closed", "/open"} {
		if got := get(t, g.url(api)); got.header.Get("X-Gate") != "here" {
			t.Errorf("%s is not changed any more: %d %v", api, got.status, got.header)
		}
	}
	noted(t, g.process, " PLG ")
}

// TestEdgeKilled kills an edge: its plugins end with it.
func TestEdgeKilled(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := plainApp(t, env, "app")
	g := startPluginGate(t, env, pinned(t, "header-map", bundled(t, "header-map"), "")+pinned(t, "hmac-auth", bundled(t, "hmac-auth"), "")+
		transformAPI("mapped", app, `"header-map" { settings = { request = [{ remove = "cookie" }] } }`)+signedAPI(app, ""))
	waitStatus(t, g.url("/mapped"), http.StatusOK)
	pids := append(g.pids(t, "header-map"), g.pids(t, "hmac-auth")...)
	must(t, g.process.Signal(syscall.SIGKILL))
	<-g.process.Done()
	gone(t, pids...)
	g.noFiles(t)
}

// TestPluginMisbehaves asks a plugin that hangs, breaks the protocol and crashes, by routes of both fail modes.
func TestPluginMisbehaves(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := plainApp(t, env, "app")
	g := startPluginGate(t, env, pinnedOdd(t, "    timeout = \"1s\"\n    max_concurrent = 4\n")+
		transformAPI("closed", app, `"odd" {}`)+transformAPI("open", app, `"odd" { fail_mode = "open" }`)+`
  consumer "bob" {}
  api "known" {
    base_path       = "/known"
    strip_base_path = true
    authenticate "plugin" { plugin = "odd" }
    route "all" {
      upstream { `+app+` }
    }
  }
  api "loose" {
    base_path       = "/loose"
    strip_base_path = true
    authenticate "plugin" {
      plugin    = "odd"
      fail_mode = "open"
    }
    route "all" {
      upstream { `+app+` }
    }
  }
  api "guarded" {
    base_path       = "/guarded"
    allow_consumers = ["bob"]
    authenticate "plugin" {
      plugin    = "odd"
      fail_mode = "open"
    }
    route "all" {
      upstream { `+app+` }
    }
  }
`)
	wantAnswer(t, get(t, g.url("/closed"), with("X-Odd", "refuse")), http.StatusForbidden, "closed on sundays")
	wantAnswer(t, get(t, g.url("/open"), with("X-Odd", "refuse")), http.StatusForbidden, "closed on sundays")
	if got := get(t, g.url("/closed/x/y"), with("X-Odd", "route")); upstreamSaw(t, got).Path != "/headers?moved" {
		t.Errorf("the path is not what the plugin wants: %s", got.body)
	}
	for odd, log := range map[string]string{
		"hang":   "plugin did not answer in time",
		"fail":   "a part of me is missing",
		"path":   "path has an encoded slash",
		"header": "one by which the edge vouches for the caller",
		"huge":   "plugin broke the protocol",
		"status": "the status is 99",
		"crash":  "plugin is not running",
	} {
		t.Run(odd, func(t *testing.T) {
			waitStatus(t, g.url("/closed/"), http.StatusOK)
			wantAnswer(t, get(t, g.url("/closed/"), with("X-Odd", odd)), http.StatusServiceUnavailable, later)
			waitStatus(t, g.url("/closed/"), http.StatusOK)
			wantAnswer(t, get(t, g.url("/open/"), with("X-Odd", odd)), http.StatusOK, "app")
			noted(t, g.process, log) // in the access log, if the route's own lines are bounded
		})
	}
	// hanging calls take places, until the process is replaced; those who do not hang are served again
	for range 6 {
		wantStatus(t, get(t, g.url("/closed/"), with("X-Odd", "hang")), http.StatusServiceUnavailable)
	}
	waitStatus(t, g.url("/closed/"), http.StatusOK)

	wantAnswer(t, get(t, g.url("/known/headers"), with("X-User", "bob")), http.StatusOK, "bob")
	wantAnswer(t, get(t, g.url("/known/"), with("X-User", "mallory")), http.StatusForbidden, "this consumer is not known here")
	wantAnswer(t, get(t, g.url("/known/"), with("X-Odd", "fail")), http.StatusServiceUnavailable, later)
	noted(t, g.process, "plugin names a consumer that is not in the configuration")
	if got := get(t, g.url("/loose/headers"), with("X-Odd", "fail"), with("X-Serai-Consumer", "bob")); got.status != http.StatusOK || upstreamSaw(t, got).Header.Get("X-Serai-Consumer") != "" {
		t.Errorf("open: status %d: %s", got.status, got.body)
	}
	wantAnswer(t, get(t, g.url("/guarded/"), with("X-Odd", "fail"), with("X-User", "bob")), http.StatusForbidden, "may not call")
}

// TestBadPlugin starts edges with what cannot work: each says what is wrong, and where.
func TestBadPlugin(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	port, err := env.Port()
	must(t, err)
	const upstream = `addresses = ["127.0.0.1:1"]`
	use := transformAPI("x", upstream, `"p" {}`)
	script := func(name, text string) string {
		file := filepath.Join(env.Dir(), name)
		must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
		return pinned(t, "p", file, "")
	}
	locked := filepath.Join(env.Dir(), "locked")
	must(t, os.WriteFile(locked, []byte("#!/bin/sh\n"), 0o600))
	sound := pinned(t, "p", bundled(t, "header-map"), "")
	changed := strings.Replace(sound, "sha256:", "sha256:"+strings.Repeat("0", 64)+"\" #", 1)
	found := sound[strings.Index(sound, "sha256:"):][:len("sha256:")+64]
	temp := filepath.Join(env.Dir(), "temp")
	must(t, os.Mkdir(temp, 0o700))
	for name, c := range map[string]struct {
		blocks string
		texts  []string // where it stands first
	}{
		"wrong checksum":  {changed + use, []string{"FILE:5", "the checksum of", found, "pins sha256:00000000", "somebody has changed it"}},
		"other version":   {script("version", `echo '1|99|unix|/nowhere|grpc|'; read gone`) + use, []string{"FILE:5", "speaks version \"99\" of the protocol", "this Serai version 1"}},
		"no plugin":       {script("none", `echo 'usage: none [-h]' >&2; exit 2`) + use, []string{"FILE:5", "is no plugin", "exit status 2", "usage: none [-h]"}},
		"no such file":    {strings.Replace(sound, "header-map", "header-mop", 1) + use, []string{"FILE:5", "there is no file", "header-mop"}},
		"not executable":  {pinned(t, "p", locked, "") + use, []string{"FILE:5", "is not executable: run `chmod +x"}},
		"refuses":         {sound + transformAPI("x", upstream, `"p" { settings = { request = [{ rename = "a" }] } }`), []string{"FILE:13", "it refuses its settings: request rule 1 needs to"}},
		"cannot do that":  {pinned(t, "p", bundled(t, "hmac-auth"), "") + transformAPI("x", upstream, `"p" { settings = { keys = { k = { secret = "0123456789abcdef", consumer = "bob" } } } }`), []string{"FILE:13", "does not transform requests; it can authenticate them"}},
		"unknown":         {use, []string{"FILE:9", `unknown plugin "p"; there is none; add plugin "p" {`}},
		"without any pin": {"  plugin \"p\" {\n    command = \"/p\"\n  }\n" + use, []string{"FILE:5", "checksum"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(env.Dir(), strings.ReplaceAll(name, " ", "-")+".hcl")
			must(t, os.WriteFile(file, fmt.Appendf(nil, "edge {\n  listener \"public\" {\n    address = %q\n  }\n%s}\n", local(port), c.blocks), 0o600))
			for i := range c.texts {
				c.texts[i] = strings.ReplaceAll(c.texts[i], "FILE", file)
			}
			fails(t, env, []string{"edge", "-config", file}, []string{"TMPDIR=" + temp}, c.texts...)
		})
	}
	t.Run("validate", func(t *testing.T) { // by a relative path, too, and leaves nothing running
		file := "good.hcl"
		must(t, os.Symlink(bundled(t, "header-map"), filepath.Join(env.Dir(), "mapper")))
		sound := strings.Replace(sound, bundled(t, "header-map"), "mapper", 1)
		good := transformAPI("x", upstream, `"p" { settings = { request = [{ remove = "a" }] } }`)
		must(t, os.WriteFile(filepath.Join(env.Dir(), file), fmt.Appendf(nil, "edge {\n  listener \"public\" {\n    address = %q\n  }\n%s%s}\n", local(port), sound, good), 0o600))
		p, err := env.Serai([]string{"edge", "-config", file, "-validate"}, "TMPDIR="+temp)
		must(t, err)
		exits(t, p, patience)
		g := &pluginGate{gate: &gate{process: p}}
		gone(t, g.pids(t, "p")...)
	})
	(&pluginGate{temp: temp}).noFiles(t)
}
