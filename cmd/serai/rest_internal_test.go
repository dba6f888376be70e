package main

import "testing"

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		what  string
		live  uint64
		share float64
		want  int
	}{
		{"nothing is known", 0, 0, 100},
		{"little lives", 4 << 20, 0, 100},
		{"as much as there is room for garbage", 8 << 20, 0, 100},
		{"more", 16 << 20, 0.01, 50},
		{"much more", 200 << 20, 0, 40},
		{"much, and the collector is busy", 200 << 20, 0.03, 100},
	} {
		if got := gcPercent(row.live, row.share); got != row.want {
			t.Errorf("%s: %d, not %d", row.what, got, row.want)
		}
	}
}
