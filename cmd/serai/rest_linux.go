package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releasePages takes the program's code and constants out of our memory. They
// stay in the kernel's cache of the file, from where what we still use comes
// back at its first use, without a read from the disk. The start of a program
// touches most of its file: each package's initialisation is in another place,
// and the kernel maps 64 KiB around each place. An idle sidecar uses a third of it.
//
// It is what the kernel itself does when memory is short. A mapping in which
// somebody has written (a debugger, or a tracer's probe) stays as it is.
func releasePages() error {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("find the program's pages: %w", err)
	}
	defer file.Close()
	var all error
	for _, m := range unwritten(file) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			all = errors.Join(all, fmt.Errorf("release pages %x-%x: %w", m.start, m.end, errno))
		}
	}
	return all
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// unwritten reads a /proc/PID/smaps (proc_pid_smaps(5)) and returns the mappings
// of files that may not be written to and have not been.
func unwritten(smaps io.Reader) []mapping {
	var (
		found   []mapping
		current mapping
		is      bool // current is the readable part of a file, and nobody has written in it
	)
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 3 && (fields[0] == "Anonymous:" || fields[0] == "Swap:"):
			is = is && fields[1] == "0"
		case len(fields) == 3 && fields[0] == "Locked:": // after those two
			if is && fields[1] == "0" {
				found = append(found, current)
			}
		case len(fields) >= 6 && strings.Contains(fields[0], "-"):
			// address perms offset dev inode path; no file has the inode 0
			current, is = mapping{}, false
			start, end, _ := strings.Cut(fields[0], "-")
			from, err1 := strconv.ParseUint(start, 16, 64)
			to, err2 := strconv.ParseUint(end, 16, 64)
			if err1 == nil && err2 == nil && (fields[1] == "r-xp" || fields[1] == "r--p") && fields[4] != "0" {
				current, is = mapping{uintptr(from), uintptr(to)}, true
			}
		}
	}
	return found
}
