package jobs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxFile bounds what is read of a job file or a file with values; Nomad itself
// takes no more than a few MiB in a request.
const maxFile = 4 << 20

// File is a job file: HCL2 with blocks of variables and one job. What is in the
// job only Nomad knows.
type File struct {
	// Name stands in problems.
	Name string
	// Text is the file as it was read.
	Text []byte
	// Variables are those that the file declares, in its order.
	Variables []*Variable
}

// Open finds a job by what the user calls it: the name of a spec, the path of a
// file, or "-" for stdin. A spec wins over a file of its name; ./NAME is always
// a file.
func Open(name string, stdin io.Reader) (*File, error) {
	if name == "-" {
		text, err := readAll("standard input", stdin)
		if err != nil {
			return nil, err
		}
		return ParseFile("standard input", text)
	}
	if IsSpec(name) {
		spec, err := FindSpec(name)
		if err != nil {
			return nil, err
		}
		return spec.File()
	}
	text, err := readFile(name)
	if errors.Is(err, os.ErrNotExist) && filepath.Base(name) == name && filepath.Ext(name) == "" {
		_, unknown := FindSpec(name)
		return nil, fmt.Errorf("%w; and no file of that name", unknown)
	}
	if err != nil {
		return nil, err
	}
	return ParseFile(name, text)
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read job file: %w", err)
	}
	defer file.Close()
	return readAll(name, file)
}

func readAll(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("read %s: it is longer than %d bytes, which no job file is", name, maxFile)
	}
	return text, nil
}

// ParseFile reads a job file that is already in memory. The error is [Errors].
func ParseFile(name string, text []byte) (*File, error) {
	parsed, diags := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, errorsOf(text, diags)
	}
	body, ok := parsed.Body.(*hclsyntax.Body)
	if !ok {
		return nil, fmt.Errorf("parse %s: no HCL body", name)
	}
	f := &File{Name: name, Text: text}
	var wrong Errors
	jobs := 0
	for _, block := range body.Blocks {
		switch block.Type {
		case "job":
			jobs++
		case "variable":
			v, problems := newVariable(block, text)
			wrong = append(wrong, problems...)
			if v != nil {
				f.Variables = append(f.Variables, v)
			}
		}
	}
	if jobs != 1 {
		wrong = append(wrong, &Error{File: name, Text: fmt.Sprintf("a job file has one block job \"NAME\" { ... }, this has %d", jobs)})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return f, nil
}

func (f *File) variable(name string) *Variable {
	for _, v := range f.Variables {
		if v.Name == name {
			return v
		}
	}
	return nil
}

func (f *File) names() []string {
	names := make([]string, len(f.Variables))
	for i, v := range f.Variables {
		names[i] = v.Name
	}
	return names
}
