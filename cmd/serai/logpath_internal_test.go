package main

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Whoever opens the log again at the same time, what is written goes to the file that is there afterwards.
func TestLogPathOpenedAtTheSameTime(t *testing.T) {
	t.Parallel()
	l, err := openLogPath(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 300 {
		var opening sync.WaitGroup
		open := func() {
			if err := l.open(); err != nil {
				t.Error(err)
			}
		}
		opening.Go(open)
		if err := os.Remove(l.path); err != nil {
			t.Fatal(err)
		}
		opening.Go(open)
		opening.Wait()
		there, err := os.Stat(l.path)
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := l.file.Stat(); err != nil || !os.SameFile(ours, there) {
			t.Fatalf("it is another file, %v", err)
		}
	}
}
