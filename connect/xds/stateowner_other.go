//go:build !unix

package xds

import "os"

// ownedByUs cannot be told here.
func ownedByUs(string, os.FileInfo) error { return nil }
