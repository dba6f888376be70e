package jobs

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Input is what the user says of variables. Later ones win: the environment,
// then the files in their order, then Vars in theirs.
type Input struct {
	// Environ has NOMAD_VAR_name=value; what else is in it does not count, nor
	// do variables that the job file does not declare, nor empty ones that are no
	// text.
	Environ []string
	// Files hold "name = value", in HCL or, if they end in .json, in JSON.
	Files []string
	// Vars are "name=value".
	Vars []string
}

// environPrefix is that of variables in the environment, as nomad's own is.
const environPrefix = "NOMAD_VAR_"

// Values are the values of a file's variables, all of them checked.
type Values struct {
	given map[string]cty.Value // those that the user gave
}

// Values computes the values of the file's variables. It finds unknown names,
// wrong types, broken rules and what is missing; the error is [Errors].
func (f *File) Values(in Input) (*Values, error) {
	c := &collector{file: f, given: map[string]cty.Value{}, from: map[string]string{}}
	for _, one := range in.Environ {
		name, text, ok := strings.Cut(one, "=")
		name, ours := strings.CutPrefix(name, environPrefix)
		if v := f.variable(name); ok && ours && v != nil && (text != "" || v.kind == cty.String) {
			c.text(v, text, environPrefix+name)
		}
	}
	for _, name := range in.Files {
		c.readFile(name)
	}
	for _, one := range in.Vars {
		name, text, ok := strings.Cut(one, "=")
		name = strings.TrimSpace(name)
		switch v := f.variable(name); {
		case !ok:
			c.fail("-var %s: it must be name=value", one)
		case v == nil:
			c.problems = append(c.problems, c.unknown("-var "+name, name))
		default:
			c.text(v, text, "-var "+name)
		}
	}
	c.check()
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	return &Values{given: c.given}, nil
}

// collector gathers values and what is wrong with them.
type collector struct {
	file     *File
	given    map[string]cty.Value
	from     map[string]string // where a value is from
	problems Errors
}

func (c *collector) fail(format string, args ...any) {
	c.problems = append(c.problems, &Error{Text: fmt.Sprintf(format, args...)})
}

func (c *collector) unknown(where, name string) *Error {
	names := c.file.names()
	there := "it has none"
	if len(names) > 0 {
		there = "there are " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
	}
	return &Error{Text: fmt.Sprintf("%s: %s has no variable %q%s; %s", where, c.file.Name, name, didYouMean(name, names), there)}
}

// text takes a value as the command line and the environment have it: of a
// string as it stands, of all else as HCL.
func (c *collector) text(v *Variable, text, where string) {
	if !utf8.ValidString(text) {
		c.fail("%s: it must be text in UTF-8", where)
		return
	}
	if v.kind == cty.String {
		c.set(v, cty.StringVal(text), where)
		return
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), where, hcl.InitialPos)
	value := cty.NilVal
	if !diags.HasErrors() {
		value, diags = expr.Value(&hcl.EvalContext{Functions: functions()})
	}
	if diags.HasErrors() {
		if v.kind == cty.DynamicPseudoType { // no type: then bare words are text
			c.set(v, cty.StringVal(text), where)
			return
		}
		c.fail("%s: %q is no %s; write for example %s", where, shorten(text), v.Type, v.example())
		return
	}
	c.set(v, value, where)
}

func (c *collector) set(v *Variable, value cty.Value, where string) {
	converted, err := convert.Convert(value, v.kind)
	if err != nil {
		c.fail("%s: it must be %s, %v; write for example %s", where, v.Type, err, v.example())
		return
	}
	c.given[v.Name], c.from[v.Name] = converted, where
}

// readFile takes values from a file.
func (c *collector) readFile(name string) {
	text, err := readFile(name)
	if err != nil {
		c.fail("-var-file %s: %v", name, errors.Unwrap(err))
		return
	}
	var file *hcl.File
	var diags hcl.Diagnostics
	if filepath.Ext(name) == ".json" {
		file, diags = hcljson.Parse(text, name)
	} else {
		file, diags = hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	}
	var attrs hcl.Attributes
	if !diags.HasErrors() {
		attrs, diags = file.Body.JustAttributes()
	}
	c.problems = append(c.problems, errorsOf(text, diags)...)
	for _, key := range slices.SortedFunc(maps.Keys(attrs), func(a, b string) int {
		return attrs[a].Range.Start.Byte - attrs[b].Range.Start.Byte
	}) {
		attr := attrs[key]
		v := c.file.variable(key)
		if v == nil {
			told := c.unknown("-var-file", key)
			c.problems = append(c.problems, errorAt(text, attr.NameRange, "%s", told.Text))
			continue
		}
		value, diags := attr.Expr.Value(&hcl.EvalContext{Functions: functions()})
		if diags.HasErrors() {
			c.problems = append(c.problems, errorsOf(text, diags)...)
			continue
		}
		c.set(v, value, fmt.Sprintf("%s:%d: %s", name, attr.NameRange.Start.Line, key))
	}
}

// check finds what is missing and what breaks a rule.
func (c *collector) check() {
	for _, v := range c.file.Variables {
		value, ok := c.given[v.Name]
		if !ok {
			if v.Required && !c.told(v.Name) {
				c.fail("%s needs a value for variable %q (%s): give %s, or set it in a file given by -var-file", c.file.Name, v.Name,
					strings.Join(nonEmpty(v.Type, v.Description), ", "), v.example())
			}
			continue
		}
		if message := v.check(value); message != "" {
			c.fail("%s: %s", c.from[v.Name], message)
		}
	}
}

// told says that a value was given, and that something is wrong with it.
func (c *collector) told(name string) bool {
	return slices.ContainsFunc(c.problems, func(p *Error) bool {
		return strings.HasPrefix(p.Text, "-var "+name+":") || strings.HasPrefix(p.Text, environPrefix+name+":") ||
			strings.Contains(p.Text, ": "+name+": it must be ")
	})
}

// Text is the values as a file that Nomad reads: "name = value", a line each.
// It is empty if the user gave none.
func (v *Values) Text() string {
	file := hclwrite.NewEmptyFile()
	for _, name := range slices.Sorted(maps.Keys(v.given)) {
		file.Body().SetAttributeRaw(name, tokens(v.given[name]))
	}
	return string(file.Bytes())
}

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func shorten(text string) string {
	if len(text) > 60 {
		return text[:60] + "..."
	}
	return text
}
