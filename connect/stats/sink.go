package stats

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"
)

// Sink sends what a View shows to a statsd, at intervals: counters as what came
// in between, gauges as they are, histograms as the values that were counted.
//
// Envoy sends a line for each value of a histogram when it is counted. Here one
// is sent for all values of a bucket, at the interval and with a sample rate, so
// that the server counts as many: serving a request costs nothing more.
type Sink struct {
	View *View
	// Prefix of all names; "" means "envoy".
	Prefix string
	// Tags sends labels as DogStatsD has them; without, names are whole.
	Tags bool
	// MaxDatagram is how many bytes of lines one write may have; 0 means one line
	// in each.
	MaxDatagram int
	// Interval between two flushes.
	Interval time.Duration
	// Dial connects; it is asked again after an error.
	Dial func(ctx context.Context) (net.Conn, error)
	// Stream says that Dial gives a stream, on which each line ends with a newline.
	Stream bool
	Log    *slog.Logger

	// Flushes and Failures count what became of them.
	Flushes, Failures Counter

	// owned by Run:
	conn    net.Conn
	told    bool
	last    map[string]int64 // what was sent of counters
	gauges  map[gauge]bool   // those that were sent
	buckets map[string]*Reading
}

// gauge is one by the two parts of its name.
type gauge struct{ owner, name string }

// writeTimeout bounds one write.
const writeTimeout = time.Second

// Run sends until ctx ends, and then once more. It is called once.
func (s *Sink) Run(ctx context.Context) error {
	s.last, s.gauges, s.buckets = map[string]int64{}, map[gauge]bool{}, map[string]*Reading{}
	if s.Prefix == "" {
		s.Prefix = "envoy"
	}
	ticker := time.NewTicker(s.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			s.flush(last)
			if s.conn != nil {
				return s.conn.Close()
			}
			return nil
		}
	}
}

// flush sends what came since the last one. What cannot be sent is lost, as with
// Envoy: the next flush has the next numbers.
func (s *Sink) flush(ctx context.Context) {
	s.Flushes.Add(1)
	err := s.send(ctx)
	if err == nil {
		s.told = false
		return
	}
	s.Failures.Add(1)
	if !s.told {
		s.told = true
		s.Log.Warn("numbers cannot be sent to statsd, trying again at each interval", "err", err)
	}
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

func (s *Sink) send(ctx context.Context) error {
	lines := s.lines() // also where they cannot be sent: what came is over
	if s.conn == nil {
		conn, err := s.Dial(ctx)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	var all error
	datagram := make([]byte, 0, s.MaxDatagram+1)
	write := func() {
		if len(datagram) == 0 {
			return
		}
		if s.Stream {
			datagram = append(datagram, '\n')
		}
		// A server of datagrams that is not there refuses one, and may take the next.
		if _, err := s.conn.Write(datagram); err != nil && all == nil {
			all = err
		}
		datagram = datagram[:0]
	}
	for _, line := range lines {
		if len(datagram) > 0 && len(datagram)+1+len(line) > s.MaxDatagram {
			write()
			if s.Stream && all != nil {
				return all
			}
		}
		if len(datagram) > 0 {
			datagram = append(datagram, '\n')
		}
		datagram = append(datagram, line...)
	}
	write()
	var network *net.OpError
	if !s.Stream && errors.As(all, &network) && network.Timeout() {
		return nil // the system's buffer is full, which the next flush may find otherwise
	}
	return all
}

// worth are the numbers that are worth sending, in order. What was never counted is
// not; a gauge that was sent is, also when it is 0 again.
func (s *Sink) worth() []Stat {
	var all []Stat
	gauges := map[gauge]bool{} // those that are there
	for stat := range s.View.Registry.each() {
		key := gauge{stat.Owner, stat.Name}
		if stat.Kind == KindText || !stat.used() && (stat.Kind != KindGauge || !s.gauges[key]) {
			continue
		}
		if stat.whole(); !s.View.Matcher.Shows(stat.Name) {
			continue
		}
		if stat.Kind == KindGauge {
			gauges[key] = true
		}
		all = append(all, stat)
	}
	s.gauges = gauges
	o := &ordered{all: all}
	for i := range o.all {
		o.all[i].split()
	}
	o.arrange()
	worth := make([]Stat, 0, len(o.order))
	for one := range o.each() {
		one.whole()
		worth = append(worth, *one)
	}
	return worth
}

// lines are those of one flush.
func (s *Sink) lines() []string {
	var lines []string
	shown := map[string]bool{}
	for _, stat := range s.worth() {
		shown[stat.Name] = true
		name, tags := stat.Name, ""
		if s.Tags && s.View.Tagger != nil {
			var all []Tag
			name, all = s.View.Tagger.Tags(&stat)
			tags = dogTags(all)
		}
		name = s.Prefix + "." + statsdName(name)
		switch stat.Kind {
		case KindCounter:
			came := stat.Value - s.last[stat.Name]
			if came < 0 { // they were reset
				came = stat.Value
			}
			s.last[stat.Name] = stat.Value
			lines = append(lines, name+":"+strconv.FormatInt(came, 10)+"|c"+tags)
		case KindGauge:
			lines = append(lines, name+":"+strconv.FormatInt(stat.Value, 10)+"|g"+tags)
		default:
			lines = s.timers(lines, &stat, name, tags)
		}
	}
	// What is gone, such as a cluster, begins anew if it comes again.
	maps.DeleteFunc(s.last, func(name string, _ int64) bool { return !shown[name] })
	maps.DeleteFunc(s.buckets, func(name string, _ *Reading) bool { return !shown[name] })
	return lines
}

// timers are the lines of a histogram.
func (s *Sink) timers(lines []string, stat *Stat, name, tags string) []string {
	before := s.buckets[stat.Name]
	now := stat.Histogram
	if before == nil || now.Count < before.Count { // it is new, or has begun anew
		before = &Reading{}
	}
	s.buckets[stat.Name] = now
	all, sum := now.Count-before.Count, now.Sum-before.Sum
	if all <= 0 {
		return lines
	}
	below, belowBefore := int64(0), int64(0)
	lower := 0.0
	bounds := Bounds()
	for i := range len(bounds) + 1 {
		cumulative, cumulativeBefore, upper := now.Count, before.Count, bounds[len(bounds)-1]
		if i < len(bounds) {
			cumulative, cumulativeBefore, upper = now.Cumulative[i], before.Cumulative[i], bounds[i]
		}
		n := cumulative - below - (cumulativeBefore - belowBefore)
		below, belowBefore = cumulative, cumulativeBefore
		if n > 0 {
			value := (lower + upper) / 2
			if i == 0 {
				value = 0 // values are whole
			}
			if n == all { // their mean is known
				value = float64(sum) / float64(n)
			}
			rate := ""
			if n > 1 {
				rate = "|@" + strconv.FormatFloat(1/float64(n), 'g', 8, 64)
			}
			lines = append(lines, name+":"+strconv.FormatFloat(value, 'f', -1, 64)+"|ms"+rate+tags)
		}
		lower = upper
	}
	return lines
}

// dogTags are labels as DogStatsD has them.
func dogTags(tags []Tag) string {
	if len(tags) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("|#")
	for i, tag := range tags {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(statsdName(tag.Name) + ":" + statsdName(tag.Value))
	}
	return out.String()
}

// statsdName is a name or label without what ends one.
func statsdName(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ':', '|', '@', '#', ',', '\n', '\r':
			return '_'
		}
		return r
	}, name)
}
