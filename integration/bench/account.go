//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what the kernel has counted for processes, their finished threads included, since their start.
func processorTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		var t unix.Timespec
		// The clock of another process's processor time, as clock_getcpuclockid(3) makes its number.
		if unix.ClockGettime(int32(^pid<<3|2), &t) == nil {
			sum += time.Duration(t.Nano())
		}
	}
	return sum
}

// family is a process and all that is in its process group: nginx's workers, for one.
func family(leader int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		pid, group, ok := processGroup(text)
		if ok && group == leader {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// processGroup reads a /proc/PID/stat: PID (name) state parent group ...; the name may hold anything.
func processGroup(stat []byte) (pid, group int, ok bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 1 || end < open {
		return 0, 0, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 3 {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	if err != nil {
		return 0, 0, false
	}
	group, err = strconv.Atoi(fields[2])
	return pid, group, err == nil
}

// peakMemory is the sum of the largest resident sizes that processes have had, in MiB.
func peakMemory(pids []int) (float64, error) { return memory(pids, "VmHWM:") }

func memory(pids []int, field string) (float64, error) {
	sum := 0
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("read memory of process: %w", err)
		}
		kib, err := statusField(text, field)
		if err != nil {
			return 0, err
		}
		sum += kib
	}
	return float64(sum) / 1024, nil
}

// statusField reads a line "NAME   123 kB" of a /proc/PID/status.
func statusField(status []byte, name string) (int, error) {
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		if err != nil {
			return 0, fmt.Errorf("read %s %w", name, err)
		}
		return kib, nil
	}
	return 0, fmt.Errorf("read memory: there is no %s", name)
}
