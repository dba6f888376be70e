package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// evalContext is what expressions in a file of directory may use.
//
//	env("NAME")             the environment variable; an error if it is not set
//	env("NAME", "default")  the same with a default
//	file("path")            a file's text; the path is relative to the config file
func evalContext(directory string) *hcl.EvalContext {
	return &hcl.EvalContext{Functions: map[string]function.Function{
		"env":  envFunction(),
		"file": fileFunction(directory),
	}}
}

func envFunction() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if len(args) > 2 {
				return cty.NilVal, function.NewArgErrorf(2, "env takes a name and at most one default")
			}
			value, ok := os.LookupEnv(name)
			switch {
			case ok:
				return cty.StringVal(value), nil
			case len(args) == 2:
				return args[1], nil
			default:
				return cty.NilVal, function.NewArgErrorf(0,
					"the environment variable %s is not set; set it, or give a default: env(%q, \"\")", name, name)
			}
		},
	})
}

func fileFunction(directory string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := resolve(directory, args[0].AsString())
			data, err := readFile(name)
			if err == nil && !utf8.Valid(data) {
				err = errors.New("the file is not UTF-8 text")
			}
			if err != nil {
				return cty.NilVal, function.NewArgError(0, fmt.Errorf("%s: %w", name, err))
			}
			return cty.StringVal(string(data)), nil
		},
	})
}

// resolve makes a path that is relative to directory one that is relative to
// the working directory.
func resolve(directory, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(directory, path)
}
