package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// decoder fills Config structs from HCL bodies and collects all errors.
type decoder struct {
	// sources by file name, for the lines shown with errors.
	sources map[string][]byte
	// contexts by directory: file() is relative to it.
	contexts map[string]*hcl.EvalContext
	errs     Errors
}

// place is where in the configuration a body stands.
type place struct {
	// blocks from the innermost out, such as `route "list" of api "orders"`; ""
	// at the top.
	blocks string
	// at is the range of the block's head, or where a missing argument belongs.
	at hcl.Range
}

// in is " in <block>", "" at the top.
func (p place) in() string {
	if p.blocks == "" {
		return ""
	}
	return " in " + p.blocks
}

// inner is the place of a block in p. The roots ("edge") are left out of the
// description of what is in them.
func (p place) inner(b *hcl.Block) place {
	words := []string{b.Type}
	for _, text := range b.Labels {
		words = append(words, strconv.Quote(text))
	}
	name := strings.Join(words, " ")
	if strings.Contains(p.blocks, `"`) {
		name += " of " + p.blocks
	}
	return place{blocks: name, at: b.DefRange}
}

// body fills target, a struct, from one body.
func (d *decoder) body(body hcl.Body, target reflect.Value, at place) {
	fields := fieldsOf(target.Type())
	content, diags := body.Content(schemaOf(target.Type(), fields))
	d.diagnostics(withRemedy(diags, fields), at)
	if content == nil {
		return
	}
	positions := map[string]string{"": lineOf(at.at)}
	for _, f := range fields {
		value := target.Field(f.index)
		switch f.role {
		case argument:
			attr, ok := content.Attributes[f.name]
			if ok {
				positions[f.name] = lineOf(attr.NameRange)
				d.attribute(attr, f, value, at)
			} else if !f.optional {
				d.missing(body, f, value.Type(), at)
			}
		case block:
			d.blocks(content.Blocks.OfType(f.name), f, value, at)
		case label, position:
		}
	}
	for _, f := range fields {
		if f.role == position {
			setPosition(target.Field(f.index), positions)
		}
	}
}

// setPosition fills a field tagged ",pos".
func setPosition(value reflect.Value, positions map[string]string) {
	if value.Kind() == reflect.String {
		value.SetString(positions[""])
		return
	}
	value.Set(reflect.ValueOf(positions).Convert(value.Type()))
}

// blocks fills a block field from the blocks of its type.
func (d *decoder) blocks(blocks hcl.Blocks, f field, value reflect.Value, at place) {
	if len(blocks) == 0 {
		return
	}
	if value.Kind() == reflect.Slice {
		for _, one := range blocks {
			item := reflect.New(blockType(value.Type()))
			d.block(one, one.Body, item.Elem(), at)
			if value.Type().Elem().Kind() == reflect.Struct {
				item = item.Elem()
			}
			value.Set(reflect.Append(value, item))
		}
		return
	}
	body := blocks[0].Body
	if f.merge {
		bodies := make([]hcl.Body, len(blocks))
		for i := range blocks {
			bodies[i] = blocks[i].Body
		}
		body = hcl.MergeBodies(bodies)
	} else {
		for _, again := range blocks[1:] {
			d.fail(again.DefRange, fmt.Sprintf("Duplicate block%s: %s was already given at %s; only one is allowed here",
				at.in(), f.name, lineOf(blocks[0].DefRange)))
		}
	}
	item := reflect.New(blockType(value.Type()))
	d.block(blocks[0], body, item.Elem(), at)
	value.Set(item)
}

// block fills target from one block, whose content is body.
func (d *decoder) block(b *hcl.Block, body hcl.Body, target reflect.Value, at place) {
	next := 0
	for _, f := range fieldsOf(target.Type()) {
		if f.role == label && next < len(b.Labels) {
			target.Field(f.index).SetString(b.Labels[next])
			if b.Labels[next] == "" && next < len(b.LabelRanges) {
				d.fail(b.LabelRanges[next], fmt.Sprintf("Empty name%s: a %s needs a %s, such as %s \"main\"",
					at.in(), b.Type, f.name, b.Type))
			}
			next++
		}
	}
	d.body(body, target, at.inner(b))
}

// attribute fills value from one argument.
func (d *decoder) attribute(attr *hcl.Attribute, f field, value reflect.Value, at place) {
	directory := filepath.Dir(attr.Range.Filename)
	if d.contexts[directory] == nil {
		d.contexts[directory] = evalContext(directory)
	}
	found, diags := attr.Expr.Value(d.contexts[directory])
	if diags.HasErrors() {
		d.diagnostics(diags, at)
		return
	}
	if err := assign(found, value, f, directory); err != nil {
		d.fail(attr.Expr.Range(), fmt.Sprintf("Wrong value%s: %s %s", at.in(), f.name, err))
	}
}

// missing tells that a required argument is not there.
func (d *decoder) missing(body hcl.Body, f field, t reflect.Type, at place) {
	subject := at.at
	if subject.Filename == "" {
		subject = body.MissingItemRange()
	}
	d.fail(subject, fmt.Sprintf("Missing argument%s: %s is required, such as %s = %s", at.in(), f.name, f.name, example(t, f)))
}

// diagnostics turns what HCL found into our errors.
func (d *decoder) diagnostics(diags hcl.Diagnostics, at place) {
	// HCL does not know the singular.
	singular := strings.NewReplacer("1 labels (", "one label (", ") are expected", ") is expected")
	for _, one := range diags {
		if one.Severity != hcl.DiagError {
			continue
		}
		text := one.Summary + at.in()
		if one.Detail != "" {
			text += ": " + lowerFirst(singular.Replace(strings.Join(strings.Fields(one.Detail), " ")))
		}
		subject := hcl.Range{}
		if one.Subject != nil {
			subject = *one.Subject
		}
		d.fail(subject, text)
	}
}

// withRemedy tells what there is where HCL has nothing like it to propose.
func withRemedy(diags hcl.Diagnostics, fields []field) hcl.Diagnostics {
	names := map[string][]string{}
	for _, f := range fields {
		switch f.role {
		case argument:
			names["Unsupported argument"] = append(names["Unsupported argument"], f.name)
		case block:
			names["Unsupported block type"] = append(names["Unsupported block type"], f.name)
		case label, position:
		}
	}
	for _, one := range diags {
		if known := names[one.Summary]; len(known) > 0 && !strings.Contains(one.Detail, "Did you mean") {
			one.Detail += " There is: " + strings.Join(known, ", ") + "."
		}
	}
	return diags
}

// fail notes one error. HCL ranges that span lines are cut at the first.
func (d *decoder) fail(at hcl.Range, text string) {
	err := &Error{File: at.Filename, Text: text}
	if at.Filename != "" && at.Start.Line > 0 {
		err.Line, err.Column, err.EndColumn = at.Start.Line, at.Start.Column, at.End.Column
		err.Source = sourceLine(d.sources[at.Filename], err.Line)
		if at.End.Line != at.Start.Line {
			err.EndColumn = utf8.RuneCountInString(err.Source) + 1
		}
		err.EndColumn = max(err.EndColumn, err.Column)
	}
	d.errs = append(d.errs, err)
}

// sourceLine returns line n, which counts from 1, of data.
func sourceLine(data []byte, n int) string {
	for line := range strings.Lines(string(data)) {
		if n--; n == 0 {
			return strings.TrimRight(line, "\r\n")
		}
	}
	return ""
}

// lineOf is a position as parts put it in front of their errors.
func lineOf(at hcl.Range) string {
	if at.Filename == "" {
		return ""
	}
	return at.Filename + ":" + strconv.Itoa(at.Start.Line)
}

// lowerFirst makes a sentence go on after a colon.
func lowerFirst(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	second, _ := utf8.DecodeRuneInString(text[size:])
	if unicode.IsUpper(second) {
		return text // an abbreviation
	}
	return string(unicode.ToLower(first)) + text[size:]
}
