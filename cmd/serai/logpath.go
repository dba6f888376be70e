package main

import (
	"fmt"
	"os"
	"sync"
)

// logPath is the file of --log-path. It is safe for concurrent use.
type logPath struct {
	path string

	mu   sync.Mutex // guards:
	file *os.File
}

func openLogPath(path string) (*logPath, error) {
	l := &logPath{path: path}
	return l, l.open()
}

// open opens the file, and again if it was moved away; if it cannot be opened the old
// one stays.
func (l *logPath) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("-log-path: %w", err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return nil
}

// Write implements [io.Writer].
func (l *logPath) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(p)
}

// Close closes the file.
func (l *logPath) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
