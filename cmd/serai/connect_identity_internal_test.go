package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/catalog"
)

// What is kept is read again, and what a killed process has left goes; what somebody may be at stays.
func TestKeptIdentity(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "proxy-1.json")
	old, young := file+".new-1", file+".new-2"
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if then := time.Now().Add(-time.Hour); os.Chtimes(old, then, then) != nil {
		t.Fatal("its time cannot be set")
	}
	if err := writeIdentity(file, keptIdentity{catalog.Proxy{ID: "web"}, catalog.GRPC{Address: "127.0.0.1:8502"}}); err != nil {
		t.Fatal(err)
	}
	if kept, ok := readIdentity(file); !ok || kept.Proxy.ID != "web" {
		t.Errorf("got %+v, %t", kept, ok)
	}
	all, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Error(err)
	}
}
