//go:build unix

package bulk_test

import (
	"crypto/tls"
	"io"
	"syscall"
	"testing"

	"github.com/serai-net/serai/connect/wire/bulk"
)

// BenchmarkPipe tells the processor time of a relay with both far ends, which is
// the same with and without ("bare") what this package does about TLS.
func BenchmarkPipe(b *testing.B) {
	secured := end{network: "tcp", version: tls.VersionTLS13}
	bare := secured
	bare.bare = true
	for name, ends := range map[string][2]end{
		"plain":      {{network: "tcp"}, {network: "tcp"}},
		"copied":     {{network: "tcp"}, {network: "tcp", wrapped: true}},
		"tls":        {{network: "tcp"}, secured},
		"tls bare":   {{network: "tcp"}, bare},
		"both tls":   {secured, secured},
		"both, bare": {bare, bare},
	} {
		b.Run(name, func(b *testing.B) {
			from, to := relay(b, ends[0], ends[1], &bulk.Buffers{})
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			before := cpu(b)
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := from.Write(chunk); err != nil {
						b.Error(err)
					}
				}
			}()
			if _, err := io.CopyN(io.Discard, to, int64(b.N)<<20); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric((cpu(b)-before)/float64(b.N)*1024, "cpu-s/GiB")
		})
	}
}

// cpu is the processor time of this process in seconds.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
