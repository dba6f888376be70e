package jobs

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Error is one thing wrong in a job file, in a file with values or in a value
// of the command line.
type Error struct {
	// File as the user named it; "" if the problem is not about one.
	File string
	// Line and Column count from 1; 0 if not known. EndColumn is the first
	// column after what is wrong.
	Line, Column, EndColumn int
	// Text says what is wrong, and what would be right.
	Text string
	// Source is the line; "" if not known.
	Source string
}

// Error is "file:line,from-to: text", with as much of the position as is known.
func (p *Error) Error() string {
	if at := p.position(); at != "" {
		return at + ": " + p.Text
	}
	return p.Text
}

func (p *Error) position() string {
	switch {
	case p.File == "" || p.Line == 0:
		return p.File
	case p.Column == 0:
		return p.File + ":" + strconv.Itoa(p.Line)
	default:
		return fmt.Sprintf("%s:%d,%d-%d", p.File, p.Line, p.Column, p.EndColumn)
	}
}

// Errors is all that is wrong, never empty where it is returned as an error.
type Errors []*Error

// Error has one line for each problem.
func (p Errors) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Write shows the problems with the lines they are about, as compilers do. With
// colour the text has ANSI escapes, for terminals.
func (p Errors) Write(w io.Writer, colour bool) error {
	ink := palette(colour)
	var b strings.Builder
	for _, one := range p {
		if at := one.position(); at != "" {
			fmt.Fprintf(&b, "%s%s:%s ", ink.bold, at, ink.plain)
		}
		fmt.Fprintf(&b, "%serror:%s %s\n", ink.red, ink.plain, one.Text)
		if one.Source == "" {
			continue
		}
		number := strconv.Itoa(one.Line)
		fmt.Fprintf(&b, "  %s | %s\n", number, one.Source)
		if one.Column > 0 {
			fmt.Fprintf(&b, "  %*s | %s%s%s%s\n", len(number), "", blank(one.Source, one.Column-1),
				ink.red, strings.Repeat("^", max(1, one.EndColumn-one.Column)), ink.plain)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("show problems: %w", err)
	}
	return nil
}

// colours are escapes for terminals, or nothing.
type colours struct{ bold, red, green, yellow, plain string }

func palette(on bool) colours {
	if !on {
		return colours{}
	}
	return colours{bold: "\x1b[1m", red: "\x1b[31m", green: "\x1b[32m", yellow: "\x1b[33m", plain: "\x1b[0m"}
}

// blank is white space as wide as the first n characters of line.
func blank(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n--; n < 0 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// errorAt is a problem at a place in a text of ours.
func errorAt(text []byte, at hcl.Range, format string, args ...any) *Error {
	p := &Error{File: at.Filename, Text: fmt.Sprintf(format, args...)}
	if at.Start.Line > 0 {
		p.Line, p.Column, p.EndColumn = at.Start.Line, at.Start.Column, at.End.Column
		p.Source = sourceLine(text, p.Line)
		if at.End.Line != at.Start.Line {
			p.EndColumn = p.Column + 1
		}
	}
	return p
}

// errorsOf turns what HCL found in text into problems.
func errorsOf(text []byte, diags hcl.Diagnostics) Errors {
	var all Errors
	for _, one := range diags {
		if one.Severity != hcl.DiagError {
			continue
		}
		at := hcl.Range{}
		if one.Subject != nil {
			at = *one.Subject
		}
		all = append(all, errorAt(text, at, "%s: %s", one.Summary, strings.Join(strings.Fields(one.Detail), " ")))
	}
	return all
}

// sourceLine is line n, which counts from 1, of text.
func sourceLine(text []byte, n int) string {
	for line := range strings.Lines(string(text)) {
		if n--; n == 0 {
			return strings.TrimRight(line, "\r\n")
		}
	}
	return ""
}
