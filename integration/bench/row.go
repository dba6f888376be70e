//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// row is what was measured of one proxy in one scenario: each number is the median of the rounds.
type row struct {
	Scenario   string  `json:"scenario"`
	Proxy      string  `json:"proxy"`
	Rate       float64 `json:"requests_per_s"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	CPU        float64 `json:"cpu_us_per_request"`
	Memory     float64 `json:"peak_rss_mib"`
	Throughput float64 `json:"throughput_mib_s"`
	Errors     int     `json:"errors"`
	// Note says what is not as for the others; "" is nothing.
	Note string `json:"note,omitempty"`

	// Problem is why there are no numbers; such a row is only in the table.
	Problem string `json:"-"`
	// Bound says that the proxy's core was not busy: the load side was the limit.
	Bound bool `json:"-"`
	// Crowded is the share of the core that others took, if it is large: then only CPU, of all numbers, says much.
	Crowded float64 `json:"-"`
	// First is the first of the errors.
	First string `json:"-"`
}

const (
	idleLimit  = 0.05 // the share of its core that is idle if the load side is the limit
	otherLimit = 0.1  // the share that others may take: the kernel's threads, Consul's probes
)

// fill makes the numbers.
func (r *row) fill(s *scenario, rounds []round) {
	var rate, cpu, p50, p99, idle, others []float64
	for _, round := range rounds {
		count := round.full
		if count == nil {
			count = round.paced
		}
		rate = append(rate, float64(count.Requests)/count.Time.Seconds())
		cpu = append(cpu, micros(count.CPU)/float64(max(1, count.Requests)))
		p50, p99 = append(p50, micros(round.paced.P50)), append(p99, micros(round.paced.P99))
		free := count.Idle.Seconds() / count.Time.Seconds()
		idle = append(idle, free)
		others = append(others, 1-free-count.CPU.Seconds()/count.Time.Seconds())
	}
	r.Rate, r.CPU, r.P50, r.P99 = round1(median(rate)), round2(median(cpu)), round1(median(p50)), round1(median(p99))
	r.Memory = round1(r.Memory)
	r.Throughput = round1(median(rate) * float64(s.load.Body) / (1 << 20))
	if s.calm {
		return
	}
	r.Bound = median(idle) > idleLimit
	if share := median(others); share > otherLimit {
		r.Crowded = share
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func round1(v float64) float64 { return math.Round(v*10) / 10 }

func round2(v float64) float64 { return math.Round(v*100) / 100 }

// median is the middle one, of an even number the mean of both in the middle; 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(n-1)/2] + values[n/2]) / 2
}

// remarks are what is to be known beside the numbers.
func (r *row) remarks() []string {
	var all []string
	if r.Note != "" {
		all = append(all, r.Note)
	}
	if r.Bound {
		all = append(all, "bound by the load side: the proxy's core was idle for more than 5 %")
	}
	if r.Crowded > 0 {
		all = append(all, fmt.Sprintf("other processes took %.0f %% of the proxy's core", 100*r.Crowded))
	}
	return all
}

// writeRows writes the rows with numbers as a JSON array.
func writeRows(file string, rows []*row) error {
	told := make([]row, 0, len(rows))
	for _, r := range rows {
		if r.Problem != "" {
			continue
		}
		out := *r
		out.Note = strings.Join(r.remarks(), "; ")
		told = append(told, out)
	}
	text, err := json.MarshalIndent(told, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
