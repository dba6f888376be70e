package integration_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStateWithoutConsul restarts a sidecar while Consul is gone: with -state-dir it serves what it had. A file that
// is broken is not used, and the log says so.
func TestStateWithoutConsul(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	w.run(t, "api-1", "api")
	web := w.register(t, "web-1", "web", "api")
	dir := filepath.Join(w.env.Dir(), "state")
	start := func() {
		t.Helper()
		var err error
		web.sidecar, err = w.env.Serai([]string{"connect", "-sidecar-for", web.id, "-admin-bind", local(web.admin), "-state-dir", dir},
			w.consul.Environ(w.token(t, web.service))...)
		must(t, err)
	}
	start()
	w.waitOK(t, web.url("api", "/"))
	var file string
	eventually(t, "the kept configuration", func(context.Context) error {
		files, err := filepath.Glob(filepath.Join(dir, "xds-*.state"))
		if err != nil || len(files) != 1 {
			return errors.Join(errors.New("there is none"), err)
		}
		file = files[0]
		if stats := get(t, "http://"+local(web.admin)+"/stats"); !strings.Contains(stats.body, "control_plane.unsaved: 0\n") {
			return errors.New("the last change is not kept yet")
		}
		return nil
	})
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
	}

	must(t, w.consul.Kill())
	must(t, web.sidecar.Kill())
	start()
	w.waitOK(t, web.url("api", "/"))
	sidecarReady(t, web)
	if log := web.sidecar.Log(); !strings.Contains(log, "serving by the kept configuration") {
		t.Errorf("it does not say by what it serves:\n%s", log)
	}

	// Consul's truth replaces it at once.
	must(t, w.consul.Start(t.Context()))
	must(t, web.sidecar.WaitLog(t.Context(), "Consul has confirmed the configuration"))
	w.waitOK(t, web.url("api", "/"))

	text, err := os.ReadFile(file)
	must(t, err)
	must(t, w.consul.Kill())
	must(t, web.sidecar.Kill())
	must(t, os.WriteFile(file, text[:len(text)-20], 0o600))
	start()
	must(t, web.sidecar.WaitLog(t.Context(), "the kept configuration is not used"))
	waitStatus(t, web.ready(), 503)
	must(t, w.consul.Start(t.Context()))
	w.waitOK(t, web.url("api", "/")) // and all is well without it
}
