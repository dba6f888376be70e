package integration_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	modulePath   = "github.com/serai-net/serai"
	engineFloor  = 5
	outsideFloor = 100 // of integration, which may import everything and is imported by nothing
)

// folders are the top-level folders that may hold Go code.
func folders() []string {
	return []string{"agent", "edge", "connect", "plugins", "jobs", "cmd", "integration"}
}

// floors is the table of ARCHITECTURE.md. A pattern is a folder of the module, as path.Match reads it. The folder
// X/internal and all below it stand on X's own floor; X and what is below it import them, as Go itself has it.
func floors() map[int][]string {
	return map[int][]string{
		outsideFloor: {"integration", "integration/*"},

		8: {"cmd/*"},
		7: {"agent", "jobs"},
		6: {"agent/config"},
		5: {"connect/proxy", "edge", "agent/dns", "agent/console"},
		4: {
			"connect/stack", "connect/xds", "connect/admin", "agent/telemetry", "agent/redirect", "plugins/host",
			"edge/auth", "edge/consumer", "edge/extension", "edge/limit", "edge/validate", "edge/transform", "edge/version", "edge/cache", "edge/cert",
		},
		3: {
			"connect/listen", "connect/upstream", "connect/route", "connect/rbac", "connect/jwt", "connect/bootstrap",
			"connect/accesslog", "connect/trace", "connect/filter/*", "connect/xds/ads", "connect/xds/resource", "connect/xds/secret", "agent/catalog", "plugins/bundled/*",
		},
		2: {"connect/call", "connect/format", "connect/match", "connect/mtls", "connect/wire/http1", "connect/wire/http2", "connect/xds/golden", "plugins"},
		1: {"connect/logfile", "connect/mesh", "connect/wire", "connect/wire/bulk"},
		0: {"connect/spiffe", "connect/stats", "connect/wire/grammar", "connect/wire/socket", "connect/wire/proxyproto"},
	}
}

// allowed are the imports between packages of one floor, or upwards from a test (written "connect/wire_test"), each
// with its reason. Engines never get one.
func allowed() map[[2]string]string {
	return map[[2]string]string{
		{"connect/call_test", "connect/upstream"}: "calls are made through clusters, which only a real one shows",
		{"connect/mtls", "connect/match"}:         "names in certificates are matched as all other text is, regular expressions among them",
	}
}

// TestFloors holds the imports of the module to the table: down only. It parses the files itself, since a test that
// asks `go list` is served stale from the test cache.
func TestFloors(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	used := map[[2]string]bool{}
	seen := map[string]bool{}
	for _, file := range goFiles(t, root) {
		dir := path.Dir(file)
		if !seen[dir] {
			seen[dir] = true
			checkFolder(t, dir)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("parse %s: %v", file, err)
			continue
		}
		from := dir
		if strings.HasSuffix(parsed.Name.Name, "_test") {
			from += "_test"
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Errorf("%s: import %s: %v", file, spec.Path.Value, err)
				continue
			}
			to, inside := strings.CutPrefix(imported, modulePath+"/")
			if !inside || to == dir {
				continue
			}
			if allowed()[[2]string{from, to}] != "" && notEngines(dir, to) {
				used[[2]string{from, to}] = true
				continue
			}
			if complaint := checkImport(dir, to); complaint != "" {
				t.Errorf("%s: %s", file, complaint)
			}
		}
	}
	for pair := range allowed() {
		if !used[pair] && seen[strings.TrimSuffix(pair[0], "_test")] {
			t.Errorf("the import of %s by %s, which allowed() permits, is not there any more: remove its line", pair[1], pair[0])
		}
	}
}

// TestFloorsCatch shows that the check finds what it is there for.
func TestFloorsCatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"connect/proxy", "connect/xds", false},
		{"connect/xds", "connect/xds/ads", false},
		{"connect/wire/http1", "connect/wire", false},
		{"plugins", "plugins/internal/proto", false},
		{"integration", "cmd/serai", false},
		{"integration/demo", "integration/harness", false},
		{"connect/wire", "connect/wire/http1", true},
		{"connect/wire/http1", "connect/wire/http2", true},
		{"connect/proxy", "edge", true},
		{"agent/dns", "connect/proxy", true},
		{"edge", "agent", true},
		{"plugins/host", "plugins/internal/proto", false},
		{"edge", "plugins/internal/proto", true},
		{"cmd/serai", "integration/harness", true},
		{"edge", "edge/util", true},
	} {
		if got := checkImport(c.from, c.to); (got != "") != c.bad {
			t.Errorf("%s imports %s: got %q, want a complaint: %v", c.from, c.to, got, c.bad)
		}
	}
}

// floorOf tells the floor of a folder of the module, if it has one.
func floorOf(dir string) (int, bool) {
	owner, _, _ := strings.Cut(dir+"/", "/internal/")
	owner = strings.TrimSuffix(owner, "/")
	for floor, patterns := range floors() {
		for _, pattern := range patterns {
			if ok, err := path.Match(pattern, owner); ok && err == nil {
				return floor, true
			}
		}
	}
	return 0, false
}

// notEngines says that not both folders are engines.
func notEngines(from, to string) bool {
	a, _ := floorOf(from)
	b, _ := floorOf(to)
	return a != engineFloor || b != engineFloor
}

// checkFolder complains about code in a place that the house does not have.
func checkFolder(t *testing.T, dir string) {
	t.Helper()
	top, _, _ := strings.Cut(dir, "/")
	if !slices.Contains(folders(), top) {
		t.Errorf("%s: Go code belongs into one of the folders %s: move it there", dir, strings.Join(folders(), ", "))
		return
	}
	if _, ok := floorOf(dir); !ok {
		t.Errorf("%s has no floor: put it into floors() in integration/floor_test.go and into the table of ARCHITECTURE.md, or its code into a package that has one", dir)
	}
}

// checkImport says what is wrong with an import inside the module, or "".
func checkImport(from, to string) string {
	below, ok := floorOf(to)
	if !ok {
		return fmt.Sprintf("imports %s, which has no floor: put it into floors()", to)
	}
	above, _ := floorOf(from)
	owner, _, internal := strings.Cut(to+"/", "/internal/")
	switch {
	case internal && from != owner && !strings.HasPrefix(from, owner+"/"):
		return fmt.Sprintf("imports %s, which belongs to %s and what is below it", to, owner)
	case internal, above == outsideFloor:
		return ""
	case below == outsideFloor:
		return fmt.Sprintf("imports %s: only integration imports integration; move what is shared down, or this test there", to)
	case below > above:
		return fmt.Sprintf("floor %d imports %s of floor %d: imports go down only. Let the upper package hand it down as an argument, or move the noun both need to a lower floor", above, to, below)
	case below == above && above == engineFloor:
		return fmt.Sprintf("imports %s: engines never import one another. Join them in agent, or move what both need to floor %d", to, engineFloor-1)
	case below == above:
		return fmt.Sprintf("imports %s of its own floor %d: move what both need down, or give the pair and its reason to allowed() in integration/floor_test.go", to, above)
	}
	return ""
}

// moduleRoot is the folder of go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// goFiles lists the module's Go files, as slash paths below root; other modules inside it are not its own.
func goFiles(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			base := path.Base(name)
			_, nested := os.Stat(filepath.Join(root, name, "go.mod"))
			if name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_' || nested == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
