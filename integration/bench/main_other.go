//go:build !linux

// Command bench puts serai and its peers under the same load. It is for Linux, whose accounting it reads.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: it is for Linux, whose accounting of processes and choice of cores it needs")
	os.Exit(1)
}
