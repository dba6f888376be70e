package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// besides lists the fields of an object that known, a struct, has no place for, in order.
// Of something else there are none.
func besides(data []byte, known any) []string {
	var all map[string]json.RawMessage
	if json.Unmarshal(data, &all) != nil {
		return nil
	}
	for field := range reflect.TypeOf(known).Fields() {
		delete(all, field.Tag.Get("json"))
	}
	maps.DeleteFunc(all, func(_ string, value json.RawMessage) bool { return bytes.Equal(value, []byte("null")) })
	return slices.Sorted(maps.Keys(all))
}

// ignored tells what of the file, which is plain, has no effect.
func (d *document) ignored(plain []byte) ([]string, error) {
	var file struct {
		Admin          json.RawMessage `json:"admin"`
		LayeredRuntime struct {
			Layers []json.RawMessage `json:"layers"`
		} `json:"layered_runtime"`
	}
	if err := json.Unmarshal(plain, &file); err != nil {
		return nil, err
	}
	all := besides(plain, *d)
	for _, name := range besides(file.Admin, d.Admin) {
		if name == "allow_paths" {
			return nil, errors.New("admin.allow_paths is not supported: leave it out, and let nobody reach admin.address who must not see all")
		}
		all = append(all, "admin."+name)
	}
	for i, data := range file.LayeredRuntime.Layers {
		for _, kind := range besides(data, layer{}) {
			all = append(all, fmt.Sprintf("%s of layer %q of layered_runtime", kind, d.LayeredRuntime.Layers[i].Name))
		}
		for _, key := range slices.Sorted(maps.Keys(d.LayeredRuntime.Layers[i].StaticLayer)) {
			if !strings.HasPrefix(key, "re2.max_program_size.") { // expressions have bounds of our own
				all = append(all, "the runtime key "+key)
			}
		}
	}
	return all, nil
}
