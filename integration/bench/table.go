//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// writeTable writes the rows of one scenario for people. The last columns are ours divided by the peer's: below 1.00
// we are cheaper, or faster.
func writeTable(out io.Writer, s *scenario, rows []*row) error {
	var own *row
	for _, r := range rows {
		if r.Proxy == ours && r.Problem == "" {
			own = r
		}
	}
	fmt.Fprintf(out, "\n%s: %s\n\n", s.name, s.about)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "proxy\trequests/s\tMiB/s\tCPU us/request\tp50 us\tp99 us\tpeak MiB\terrors\tserai's CPU\tp99\tmemory\t\n")
	var notes []string
	for _, r := range rows {
		if r.Problem != "" {
			notes = append(notes, r.Proxy+": "+r.Problem)
			fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t-\t-\t\t\t\t\n", r.Proxy)
			continue
		}
		mark := ""
		if len(r.remarks()) > 0 {
			mark = "*"
		}
		fmt.Fprintf(w, "%s\t%.0f%s\t%.1f\t%.2f\t%s\t%s\t%.1f\t%d\t",
			r.Proxy, r.Rate, mark, r.Throughput, r.CPU, latency(r.P50), latency(r.P99), r.Memory, r.Errors)
		if own != nil && own != r {
			fmt.Fprintf(w, "%s\t%s\t%s\t\n", ratio(own.CPU, r.CPU), ratio(own.P99, r.P99), ratio(own.Memory, r.Memory))
		} else {
			fmt.Fprintf(w, "\t\t\t\n")
		}
		for _, remark := range r.remarks() {
			notes = append(notes, r.Proxy+mark+": "+remark)
		}
		if r.Errors > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d errors, the first: %s", r.Proxy, r.Errors, r.First))
		}
	}
	if s.calm {
		notes = append(notes, fmt.Sprintf("at a fixed %d requests/s, so that CPU is not that of a busy core", s.rate))
	} else {
		notes = append(notes, fmt.Sprintf("p50 and p99 are taken at %d requests/s", s.rate))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n  %s\n", strings.Join(notes, "\n  "))
	return err
}

// latency is a number of microseconds, or nothing if the proxy was so late that no request of the measured time was
// answered in it.
func latency(us float64) string {
	if us == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", us)
}

// ratio is a/b, or nothing if there is nothing to compare.
func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}
