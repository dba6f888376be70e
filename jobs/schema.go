package jobs

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	nomad "github.com/hashicorp/nomad/api"
)

// parseErrors turns what Nomad's parser answers into errors of the file. It
// finds none if the answer is of something else.
func parseErrors(file *File, body string) Errors {
	text, ok := strings.CutPrefix(strings.TrimSpace(body), "Failed to parse job: ")
	if !ok {
		return nil
	}
	// Nomad calls the text input.hcl. A line that does not begin so belongs to
	// the one before.
	place := regexp.MustCompile(`^(input\.hcl|input\.hcl\.vars|[^:\s]*):(\d+),(\d+)-(?:(\d+),)?(\d+): (.*)$`)
	var all Errors
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		m := place.FindStringSubmatch(line)
		switch {
		case m != nil:
			p := &Error{File: file.Name, Line: number(m[2]), Column: number(m[3]), EndColumn: number(m[5]), Text: m[6]}
			if m[1] != "input.hcl" || p.Line == 0 {
				p = &Error{File: file.Name, Text: m[6]}
			}
			if m[4] != "" { // it ends on another line
				p.EndColumn = p.Column + 1
			}
			p.Source = sourceLine(file.Text, p.Line)
			p.Text = strings.Replace(p.Text, "; ", ": ", 1) + valid(file, p)
			all = append(all, p)
		case line == "":
		case len(all) > 0:
			all[len(all)-1].Text += "; " + line
		default:
			all = append(all, &Error{File: file.Name, Text: line})
		}
	}
	for _, p := range all {
		if strings.Contains(p.Text, "filesystem function") {
			p.Text += "; the job is parsed by the agent, which has not your files: give the text with -var or -var-file"
		}
	}
	return all
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// valid lists what may stand at a place where Nomad knows no such thing.
func valid(file *File, p *Error) string {
	attribute := strings.HasPrefix(p.Text, "Unsupported argument")
	if !attribute && !strings.HasPrefix(p.Text, "Unsupported block type") || strings.Contains(p.Text, "Did you mean") {
		return ""
	}
	kind := typeAt(enclosing(file, p.Line))
	if kind == nil {
		return ""
	}
	arguments, blocks := names(kind)
	list, what := blocks, "blocks"
	if attribute {
		list, what = arguments, "arguments"
	}
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf(" The %s here are %s.", what, strings.Join(list, ", "))
}

// enclosing are the types of the blocks around what begins on a line, from the
// outermost in.
func enclosing(file *File, line int) []string {
	parsed, diags := hclsyntax.ParseConfig(file.Text, file.Name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil
	}
	body, _ := parsed.Body.(*hclsyntax.Body)
	var path []string
	for body != nil {
		var inner *hclsyntax.Body
		for _, block := range body.Blocks {
			if at := block.Range(); at.Start.Line < line && line <= block.Body.Range().End.Line {
				path, inner = append(path, block.Type), block.Body
			}
		}
		body = inner
	}
	return path
}

// typeAt is the struct of Nomad's API that a block fills; nil if it is none,
// such as the configuration of a driver.
func typeAt(path []string) reflect.Type {
	if len(path) == 0 || path[0] != "job" {
		return nil
	}
	kind := reflect.TypeFor[nomad.Job]()
	for _, name := range path[1:] {
		next := reflect.Type(nil)
		for field := range kind.Fields() {
			tag, option, _ := strings.Cut(field.Tag.Get("hcl"), ",")
			if tag == name && option == "block" {
				next = field.Type
			}
		}
		for next != nil && (next.Kind() == reflect.Pointer || next.Kind() == reflect.Slice) {
			next = next.Elem()
		}
		if next == nil || next.Kind() != reflect.Struct {
			return nil
		}
		kind = next
	}
	return kind
}

// names are the arguments and the blocks of a struct, sorted.
func names(kind reflect.Type) (arguments, blocks []string) {
	for field := range kind.Fields() {
		tag, option, _ := strings.Cut(field.Tag.Get("hcl"), ",")
		switch {
		case tag == "":
		case option == "block":
			blocks = append(blocks, tag)
		case option == "" || option == "optional":
			arguments = append(arguments, tag)
		}
	}
	slices.Sort(arguments)
	slices.Sort(blocks)
	return arguments, blocks
}
