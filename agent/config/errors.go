package config

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Error is one thing wrong in the configuration.
type Error struct {
	// File as the user named it, "" if the error is not about one.
	File string
	// Line and the columns count from 1; 0 if not known. EndColumn is the
	// first column after what is wrong.
	Line, Column, EndColumn int
	// Text says in which block what is wrong and what would be right.
	Text string
	// Source is the line, "" if not known.
	Source string
}

// Error is "file:line,from-to: text", with as much of the position as is known.
func (e *Error) Error() string {
	position := e.position()
	if position == "" {
		return e.Text
	}
	return position + ": " + e.Text
}

func (e *Error) position() string {
	switch {
	case e.File == "":
		return ""
	case e.Line == 0:
		return e.File
	case e.Column == 0:
		return e.File + ":" + strconv.Itoa(e.Line)
	default:
		return fmt.Sprintf("%s:%d,%d-%d", e.File, e.Line, e.Column, e.EndColumn)
	}
}

// Errors is all that is wrong, in the order of files and lines. It is never
// empty where it is returned as an error.
type Errors []*Error

// Error has one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Write shows the errors with the source lines that they are about, as
// compilers do. With colour the text has ANSI escapes, for terminals.
func (e Errors) Write(w io.Writer, colour bool) error {
	bold, red, plain := "", "", ""
	if colour {
		bold, red, plain = "\x1b[1m", "\x1b[31m", "\x1b[0m"
	}
	var b strings.Builder
	for _, one := range e {
		if position := one.position(); position != "" {
			fmt.Fprintf(&b, "%s%s:%s ", bold, position, plain)
		}
		fmt.Fprintf(&b, "%serror:%s %s\n", red, plain, one.Text)
		if one.Source == "" {
			continue
		}
		number := strconv.Itoa(one.Line)
		fmt.Fprintf(&b, "  %s | %s\n", number, one.Source)
		if one.Column > 0 {
			fmt.Fprintf(&b, "  %s | %s%s%s%s\n", strings.Repeat(" ", len(number)),
				blank(one.Source, one.Column-1), red, strings.Repeat("^", max(1, one.EndColumn-one.Column)), plain)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("show configuration errors: %w", err)
	}
	return nil
}

// blank is white space as wide as the first n characters of line.
func blank(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n--; n < 0 {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// flatten lists the errors that errors.Join and Errors have put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var many interface{ Unwrap() []error }
	var own Errors
	switch {
	case errors.As(err, &own):
		all := make([]error, len(own))
		for i := range own {
			all[i] = own[i]
		}
		return all
	case errors.As(err, &many):
		var all []error
		for _, one := range many.Unwrap() {
			all = append(all, flatten(one)...)
		}
		return all
	default:
		return []error{err}
	}
}
