package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// traps is how many things there are, in what Consul sends and how it starts a proxy, of which we know that a data
// plane goes wrong at them.
const traps = 30

// TestTrapsAreTested holds that each trap has a test, or a part of one, that carries its number.
func TestTrapsAreTested(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	begins := regexp.MustCompile(`(?:func Test|t\.Run\().*Trap0?([0-9]+)`)
	found := map[int]bool{}
	for _, file := range goFiles(t, root) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		must(t, err)
		for _, match := range begins.FindAllStringSubmatch(string(text), -1) {
			number, err := strconv.Atoi(match[1])
			must(t, err)
			found[number] = true
		}
	}
	for number := 1; number <= traps; number++ {
		if !found[number] {
			t.Errorf("no test carries the number of trap %d", number)
		}
	}
}
