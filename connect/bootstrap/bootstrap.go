// Package bootstrap reads the start configuration of a proxy: the Envoy
// bootstrap JSON that `consul connect envoy -bootstrap` and Nomad write. It
// says who the proxy is and where its control plane is; all else comes from
// there.
//
// The file is no proper protobuf JSON (a list is written as an object, and
// snake_case is mixed with camelCase), so it is read by encoding/json, leniently
// about the spelling of names; YAML is made JSON first. It may be a FIFO, so it
// is read once.
package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// maxSize bounds the file. Consul writes about 10 kB.
const maxSize = 16 << 20

// Config is what a bootstrap file says.
type Config struct {
	Node Node
	// Server is the address of the control plane. A relative socket path is as
	// in the file: see [Config.Target].
	Server mesh.Address
	// TLS is nil if the control plane is spoken to in plain text.
	TLS *TLS
	// Token goes along with every stream; it may be "".
	Token string
	// Admin is the admin endpoint; zero if there is none.
	Admin mesh.Address
	// Static are the resources that stand in the file itself.
	Static Static
	// AdminLog is the file of the admin endpoint's access log, "" for none.
	AdminLog string
	// Stats says how what is counted is shown, Sinks where it is sent to at each
	// FlushInterval.
	Stats         Stats
	Sinks         []Sink
	FlushInterval time.Duration
	// Tracing is the file's tracing as it stands there, nil without one.
	Tracing json.RawMessage
	// Runtime are the static layers of layered_runtime.
	Runtime []RuntimeLayer
	// JSON is all of it, without the token.
	JSON []byte
	// Ignored tells what of the file has no effect, for the log.
	Ignored []string
}

// RuntimeLayer is one static layer of the runtime.
type RuntimeLayer struct {
	Name   string
	Values map[string]string
}

// Static are the static resources of the file, each as it stands there.
type Static struct {
	Clusters, Listeners, Secrets []json.RawMessage
}

// Node is who the proxy is.
type Node struct {
	// ID of the proxy service; Cluster is the service that it stands for.
	ID, Cluster string
	Metadata    map[string]any
	// Region, Zone and SubZone are where it runs; "" if that is not known.
	Region, Zone, SubZone string
}

// Parse reads what a bootstrap file holds.
func Parse(data []byte) (*Config, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("larger than %d bytes: is it the right file?", maxSize)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("empty: did `consul connect envoy -bootstrap` fail? Its error is on its standard error")
	}
	file, plain, err := decode(data)
	if err != nil {
		return nil, err
	}
	config := &Config{Node: Node{
		ID: file.Node.ID, Cluster: file.Node.Cluster, Metadata: file.Node.Metadata,
		Region: file.Node.Locality.Region, Zone: file.Node.Locality.Zone, SubZone: file.Node.Locality.SubZone,
	}}
	if config.Node.ID == "" {
		return nil, errors.New("node.id is missing: it must be the ID of the proxy service in Consul")
	}
	if err := file.server(config); err != nil {
		return nil, err
	}
	if file.Admin.Address != nil {
		if config.Admin, err = file.Admin.Address.mesh(); err != nil {
			return nil, fmt.Errorf("admin.address: %w", err)
		}
	}
	ignored, err := file.ignored(plain)
	if err != nil {
		return nil, err
	}
	config.Ignored = append(config.Ignored, ignored...)
	config.Static = staticOf(data)
	config.AdminLog = file.adminLog()
	if err := file.stats(config); err != nil {
		return nil, err
	}
	config.Tracing = file.Tracing
	config.Runtime = file.runtime()
	config.JSON = redacted(data)
	return config, nil
}

// decode reads JSON with names in either spelling; plain is the same in snake_case.
func decode(data []byte) (file *document, plain []byte, err error) {
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			line, column := position(data, syntax.Offset)
			return nil, nil, fmt.Errorf("line %d, column %d: not JSON: %w", line, column, err)
		}
		return nil, nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, ok := tree.(map[string]any); !ok {
		return nil, nil, errors.New("not a JSON object: a bootstrap begins with {")
	}
	if plain, err = json.Marshal(snake(tree, "")); err != nil {
		return nil, nil, fmt.Errorf("not JSON: %w", err)
	}
	file = &document{}
	if err := json.Unmarshal(plain, file); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, nil, fmt.Errorf("%s: a JSON %s is not what belongs there", wrong.Field, wrong.Value)
		}
		return nil, nil, err
	}
	return file, plain, nil
}

// staticOf takes the static resources as they are spelled; decode has seen that
// data is an object.
func staticOf(data []byte) Static {
	var file struct {
		Snake Static `json:"static_resources"`
		Camel Static `json:"staticResources"`
	}
	if json.Unmarshal(data, &file) != nil {
		return Static{} // no list where one belongs, which decode has told
	}
	return Static{
		Clusters:  append(file.Snake.Clusters, file.Camel.Clusters...),
		Listeners: append(file.Snake.Listeners, file.Camel.Listeners...),
		Secrets:   append(file.Snake.Secrets, file.Camel.Secrets...),
	}
}

// position is the line and column, both from 1, of the character before which
// offset bytes were read.
func position(data []byte, offset int64) (line, column int) {
	before := data[:min(max(offset-1, 0), int64(len(data)))]
	line = bytes.Count(before, []byte("\n")) + 1
	return line, len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
}

// snake returns the tree with all names in snake_case, but for those that are
// data and not fields: what is under metadata, and type URLs.
func snake(tree any, under string) any {
	switch node := tree.(type) {
	case map[string]any:
		if under == "metadata" {
			return node
		}
		out := make(map[string]any, len(node))
		for name, child := range node {
			key := snakeName(name)
			out[key] = snake(child, key)
		}
		return out
	case []any:
		for i := range node {
			node[i] = snake(node[i], "")
		}
	}
	return tree
}

func snakeName(name string) string {
	var out []byte
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			if i > 0 {
				out = append(out, '_')
			}
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(out)
}
