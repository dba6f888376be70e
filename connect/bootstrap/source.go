package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Source is where a bootstrap configuration comes from: a file, text, or a file
// with text over it, as Envoy's --config-path and --config-yaml.
type Source struct {
	// Path is a file with JSON or YAML, which may be a FIFO; "" for none.
	Path string
	// YAML is YAML or JSON that is merged over the file: what is single in it
	// replaces, lists are appended; "" for none.
	YAML string
	// Service and Node, if not "", replace node.cluster and node.id.
	Service, Node string
}

// Read reads it, once.
func (s Source) Read() (*Config, error) {
	var text []byte
	where := "--config-yaml"
	if s.Path != "" {
		var err error
		where = s.Path
		if text, err = readFile(s.Path); err != nil {
			return nil, err
		}
	}
	config, err := s.merge(text)
	if err != nil {
		return nil, fmt.Errorf("bootstrap %s: %w", where, err)
	}
	return config, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("bootstrap %s: there is no such file; write one with `consul connect envoy -sidecar-for SERVICE-ID -bootstrap`", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("bootstrap %s: not readable for user %d; change its mode or run as its owner: %w", path, os.Getuid(), err)
	case err != nil:
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("bootstrap %s: not readable: %w", path, err)
	}
	return data, nil
}

// merge makes JSON of both parts, one over the other, and reads it.
func (s Source) merge(text []byte) (*Config, error) {
	if s.YAML == "" && s.Service == "" && s.Node == "" && isJSON(text) {
		return Parse(text) // as it stands, for the positions in its errors
	}
	var merged map[string]any
	for _, part := range []string{string(text), s.YAML} {
		if part == "" {
			continue
		}
		tree, err := parse([]byte(part))
		if err != nil {
			return nil, err
		}
		merged = over(merged, unified(tree, 2))
	}
	if s.Service != "" || s.Node != "" {
		named := map[string]any{}
		if s.Service != "" {
			named["cluster"] = s.Service
		}
		if s.Node != "" {
			named["id"] = s.Node
		}
		merged = over(merged, map[string]any{"node": named})
	}
	plain, err := json.Marshal(merged)
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return Parse(plain)
}

// isJSON tells whether text may be meant as JSON, or is nothing at all.
func isJSON(text []byte) bool {
	trimmed := bytes.TrimSpace(text)
	return len(trimmed) == 0 || trimmed[0] == '{' || trimmed[0] == '[' || len(text) > maxSize
}

// parse reads one part, which is JSON if it begins as such.
func parse(text []byte) (map[string]any, error) {
	var tree any
	if len(text) > maxSize {
		return nil, fmt.Errorf("larger than %d bytes: is it the right file?", maxSize)
	}
	if isJSON(text) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&tree); err == nil && !decoder.More() {
			if object, ok := tree.(map[string]any); ok {
				return object, nil
			}
		}
		// It may still be YAML, in which braces and brackets are allowed.
	}
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("neither JSON nor YAML: %w", err)
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, errors.New("neither a JSON object nor a YAML mapping")
	}
	return object, nil
}

// unified spells the names of the topmost fields in one way, so that two parts
// that spell them differently can be merged. Further below, names may be data.
func unified(tree map[string]any, depth int) map[string]any {
	out := make(map[string]any, len(tree))
	for name, value := range tree {
		key := snakeName(name)
		if child, ok := value.(map[string]any); ok && depth > 1 && key != "metadata" {
			value = unified(child, depth-1)
		}
		out[key] = value
	}
	return out
}

// over merges as protobuf does: messages field by field, lists one after the
// other, and what is single is replaced.
func over(base, top map[string]any) map[string]any {
	if base == nil {
		base = map[string]any{}
	}
	for name, value := range top {
		switch value := value.(type) {
		case map[string]any:
			if old, ok := base[name].(map[string]any); ok {
				base[name] = over(old, value)
				continue
			}
		case []any:
			if old, ok := base[name].([]any); ok {
				base[name] = append(old, value...)
				continue
			}
		}
		base[name] = value
	}
	return base
}

// redacted is a file's JSON without the token, for who asks what is in force; with
// the list that Consul writes as an object as a list, since who asks may be strict.
func redacted(data []byte) []byte {
	var tree any
	if json.Unmarshal(data, &tree) != nil {
		return nil
	}
	hide(tree)
	out, err := json.Marshal(tree)
	if err != nil {
		return nil
	}
	return out
}

// hide replaces what is secret: tokens in initial metadata and keys.
func hide(tree any) {
	switch node := tree.(type) {
	case map[string]any:
		if key, ok := node["key"].(string); ok && strings.EqualFold(key, tokenHeader) && node["value"] != "" {
			node["value"] = "[redacted]"
		}
		for name, child := range node {
			if services, ok := child.(map[string]any); ok && snakeName(name) == "grpc_services" {
				hide(services)
				node[name] = []any{services}
				continue
			}
			switch snakeName(name) {
			case "private_key", "password", "pkcs12", "session_ticket_keys", "generic_secret", "private_key_provider", "secret_access_key", "session_token":
				node[name] = hidden(child)
			default:
				hide(child)
			}
		}
	case []any:
		for _, child := range node {
			hide(child)
		}
	}
}

// hidden is a part that is secret as a whole without its texts, save names of files.
func hidden(tree any) any {
	switch node := tree.(type) {
	case string:
		return "[redacted]"
	case map[string]any:
		for name, child := range node {
			if kind := snakeName(name); kind != "filename" && kind != "environment_variable" && kind != "@type" {
				node[name] = hidden(child)
			}
		}
	case []any:
		for i := range node {
			node[i] = hidden(node[i])
		}
	}
	return tree
}
