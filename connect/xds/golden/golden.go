// Package golden reads the golden xDS files of Consul's own tests: what Consul
// sends to Envoy in each case that its authors thought of. They are read from
// the module cache, in the version that integration/tools/consul pins, and never
// copied. It is for tests; no binary links it.
package golden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// module is where the files are.
const module = "github.com/hashicorp/consul"

// File is one golden file.
type File struct {
	// Name is its path below agent/xds/testdata without ".golden", with slashes:
	// "listeners/defaults.latest".
	Name string
	// JSON is a DiscoveryResponse, a single resource, or an HTTP or network filter.
	JSON []byte
}

// Files returns the JSON files, sorted by name. An error means that they are not
// at hand: `make tools` fetches them.
func Files(ctx context.Context) ([]File, error) {
	dir, err := dir(ctx)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "agent", "xds", "testdata")
	var all []File
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name, golden := strings.CutSuffix(path, ".golden")
		if err != nil || entry.IsDir() || !golden {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !json.Valid(data) { // the others are PEM
			return err
		}
		name, err = filepath.Rel(root, name)
		all = append(all, File{Name: filepath.ToSlash(name), JSON: data})
		return err
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no golden files in %s", root)
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// dir is Consul's source in the module cache.
func dir(ctx context.Context) (string, error) {
	pin, err := pin()
	if err != nil {
		return "", err
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = pin, append(os.Environ(), "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("go %s in %s: %w", strings.Join(args, " "), pin, err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	if dir, err := run("list", "-m", "-f", "{{.Dir}}", module); err != nil || dir != "" {
		return dir, err
	}
	// Known, but not there: a machine with a Consul binary of its own.
	out, err := run("mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var got struct{ Dir, Error string }
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		return "", fmt.Errorf("go mod download -json: %w", err)
	}
	if got.Error != "" {
		return "", errors.New(got.Error)
	}
	return got.Dir, nil
}

// pin is the folder that says which version.
func pin() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		pin := filepath.Join(at, "integration", "tools", "consul")
		if _, err := os.Stat(filepath.Join(pin, "go.mod")); err == nil {
			return pin, nil
		}
		if at == filepath.Dir(at) {
			return "", errors.New("no integration/tools/consul above the working directory")
		}
		at = filepath.Dir(at)
	}
}

// Response reads a file of listeners, clusters, routes, endpoints or secrets.
func (f File) Response() (*discoveryv3.DiscoveryResponse, error) {
	response := &discoveryv3.DiscoveryResponse{}
	return response, f.Into(response)
}

// Into reads the file into msg. Every type that it names must be known.
func (f File) Into(msg proto.Message) error {
	if err := protojson.Unmarshal(f.JSON, msg); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

// Whole tells whether the file is a DiscoveryResponse.
func (f File) Whole() bool { return strings.Contains(string(f.JSON), `"typeUrl"`) }

// Any packs msg as the stream does.
func Any(msg proto.Message) (*anypb.Any, error) {
	packed := &anypb.Any{}
	err := anypb.MarshalFrom(packed, msg, proto.MarshalOptions{Deterministic: true})
	return packed, err
}
