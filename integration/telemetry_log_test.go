package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// testRotation moves an access log away, as logrotate does, and tells the process.
func (m *measured) testRotation(t *testing.T) {
	for _, one := range []*meter{m.webM, m.edgeM} {
		must(t, os.Rename(one.log, one.log+".1"))
		must(t, one.process.Signal(syscall.SIGHUP))
		eventually(t, "a new log of "+one.name, func(context.Context) error {
			_, err := os.Stat(one.log)
			return err
		})
	}
	wantStatus(t, get(t, m.gate.url("/web/x/rotated")), http.StatusOK)
	for _, one := range []*meter{m.webM, m.edgeM} {
		eventually(t, "a line in the new log of "+one.name, func(context.Context) error {
			if all := one.lines(t); len(all) != 1 || !strings.HasSuffix(all[0].Path, "/rotated") {
				return fmt.Errorf("%+v", all)
			}
			return nil
		})
	}
}

// testStop stops a sidecar while a request is under way: it is finished, and told of.
func (m *measured) testStop(t *testing.T) {
	hits := m.web.app.hits.Load()
	answered := make(chan error, 1)
	go func() {
		got, err := fetch(t.Context(), strict(t), m.gate.url("/web/slow/1s"))
		if err == nil && got.status != http.StatusOK {
			err = fmt.Errorf("status %d", got.status)
		}
		answered <- err
	}()
	eventually(t, "the request to arrive", func(context.Context) error {
		if m.web.app.hits.Load() == hits {
			return errNotYet
		}
		return nil
	})
	must(t, m.web.sidecar.Signal(syscall.SIGTERM))
	must(t, <-answered)
	ctx, cancel := context.WithTimeout(t.Context(), nomadKill)
	defer cancel()
	must(t, m.web.sidecar.Wait(ctx))
	all := m.webM.lines(t)
	last := all[len(all)-1]
	if !strings.HasSuffix(last.Path, "/slow/1s") || last.Status != http.StatusOK {
		t.Errorf("the last line is of %+v", last)
	}
}
