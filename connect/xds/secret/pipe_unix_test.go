//go:build unix

package secret_test

import (
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/secret"
)

// A pipe to which nobody writes keeps nobody waiting, least of all all others.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	store := secret.New(secret.Config{Check: check}, slog.New(slog.DiscardHandler))
	read := make(chan error, 1)
	go func() {
		_, err := store.Read().Text(mesh.Data{File: path})
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil {
			t.Error("a pipe is taken")
		}
	case <-time.After(time.Minute):
		t.Fatal("still waiting for who writes")
	}
}
