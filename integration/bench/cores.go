//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cores are the first processor that this process may use, for the proxies, and all others, for load, backend and
// Consul.
type cores struct {
	proxy  int
	others unix.CPUSet
}

// claimCores keeps this process, and all that it starts, off the proxies' core.
func claimCores() (*cores, error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("ask for cores: %w", err)
	}
	if all.Count() < 2 {
		return nil, errors.New("a benchmark needs two cores: one for the proxy, one for load and backend")
	}
	c := &cores{others: all}
	for !all.IsSet(c.proxy) {
		c.proxy++
	}
	c.others.Clear(c.proxy)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	for _, thread := range threads { // those to come are children of these
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return nil, fmt.Errorf("list threads: %w", err)
		}
		if err := unix.SchedSetaffinity(id, &c.others); err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("choose cores: %w", err)
		}
	}
	return c, nil
}

// pin is the command line that runs another on the proxies' core.
func (c *cores) pin(path string, args ...string) (string, []string) {
	return "taskset", append([]string{"--cpu-list", strconv.Itoa(c.proxy), path}, args...)
}

// idleTime is how long a core had nothing to do since the machine's start; 0 if the kernel does not tell.
func idleTime(core int) time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return idleOf(text, core)
}

// idleOf reads a core's line of /proc/stat: cpuN user nice system idle iowait ..., in hundredths of a second.
func idleOf(stat []byte, core int) time.Duration {
	name := "cpu" + strconv.Itoa(core)
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != name {
			continue
		}
		idle, err := strconv.ParseInt(fields[4], 10, 64)
		wait, waitErr := strconv.ParseInt(fields[5], 10, 64)
		if errors.Join(err, waitErr) == nil {
			return time.Duration(idle+wait) * 10 * time.Millisecond
		}
	}
	return 0
}
