//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// scaleRow is what one proxy has shown in one phase.
type scaleRow struct {
	phase, proxy string

	firstSeconds   float64 // from the start to the first answer
	firstCPU       time.Duration
	resident, peak float64 // MiB
	effects        []time.Duration
	rate           float64 // changes a second, of all upstreams together
	cpuShare       float64 // of one processor, while they came
}

func (r *scaleRow) String() string {
	return fmt.Sprintf("%s %s: first answer after %.1f s and %.2f CPU s, %.1f MiB (peak %.1f), effect p50 %s p99 %s max %s, %.0f changes/s at %.0f %% of a core",
		r.phase, r.proxy, r.firstSeconds, r.firstCPU.Seconds(), r.resident, r.peak, r.quantile(0.5), r.quantile(0.99), r.quantile(1), r.rate, 100*r.cpuShare)
}

// quantile of the times to effect; "-" if none was taken.
func (r *scaleRow) quantile(q float64) string {
	if len(r.effects) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(r.effects))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(time.Millisecond).String()
}

// writeScale writes all rows as one table of Markdown.
func writeScale(out io.Writer, rows []*scaleRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "\n| phase\t| proxy\t| resident MiB\t| peak MiB\t| first answer s\t| CPU s till then\t| effect p50\t| p99\t| max\t| changes/s\t| CPU of a core\t|\n")
	fmt.Fprintf(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.phase, r.proxy,
			taken("%.1f", r.resident), taken("%.1f", r.peak), taken("%.1f", r.firstSeconds), taken("%.2f", r.firstCPU.Seconds()),
			r.quantile(0.5), r.quantile(0.99), r.quantile(1), taken("%.0f", r.rate), taken("%.0f %%", 100*r.cpuShare))
	}
	return w.Flush()
}

// taken writes a figure; "-" for one that was not taken.
func taken(format string, figure float64) string {
	if figure == 0 {
		return "-"
	}
	return fmt.Sprintf(format, figure)
}
