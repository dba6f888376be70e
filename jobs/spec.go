package jobs

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

//go:embed specs/*.nomad.hcl
var texts embed.FS

// Spec is a job spec of ours.
type Spec struct {
	// Name by which the user asks for it.
	Name string
	// Summary is one line: what runs if it does.
	Summary string
}

// Specs lists what there is.
func Specs() []Spec {
	return []Spec{
		{"edge", "the API gateway, in the host's network"},
		{"service", "a service with Serai as its sidecar, both by the exec driver"},
		{"service-docker", "a service by the docker driver; its sidecar is the image that the clients name"},
		{"dns", "the DNS interface, on every node"},
	}
}

// File is the spec as a job file, ready to be given values.
func (s Spec) File() (*File, error) {
	path := "specs/" + s.Name + ".nomad.hcl"
	text, err := texts.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	return ParseFile(s.Name+".nomad.hcl", text)
}

// FindSpec finds a spec by its name. The error says what there is.
func FindSpec(name string) (Spec, error) {
	specs := Specs()
	names := make([]string, len(specs))
	for i, spec := range specs {
		if spec.Name == name {
			return spec, nil
		}
		names[i] = spec.Name
	}
	return Spec{}, fmt.Errorf("there is no spec %q%s; there are %s", name, didYouMean(name, names), strings.Join(names, ", "))
}

// IsSpec tells whether there is a spec of that name.
func IsSpec(name string) bool {
	return slices.ContainsFunc(Specs(), func(s Spec) bool { return s.Name == name })
}

// didYouMean proposes the known name that is nearest to what was given, if one
// is near: at most a third of its letters may differ.
func didYouMean(given string, known []string) string {
	best, found := len(given)/3+1, ""
	for _, name := range known {
		if far := levenshtein.Distance(given, name, nil); far <= best && far < len(name) {
			if far < best || found == "" {
				best, found = far, name
			}
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", found)
}
