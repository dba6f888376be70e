package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// usageError is a command line that is not understood.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(c *cli.Context, err error, _ bool) error {
	name := ""
	if c.Command != nil && c.Command.Name != c.App.Name {
		name = c.Command.Name
	}
	return &usageError{command: name, err: plain(c, err)}
}

// plain says what the library finds wrong with a command line, and what was meant.
func plain(c *cli.Context, err error) error {
	if c.Command == nil {
		return err
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var all []string
		for _, flag := range c.Command.Flags {
			for _, other := range flag.Names() {
				all = append(all, "-"+other)
			}
		}
		return fmt.Errorf("there is no flag -%s%s", name, meant("-"+name, all))
	}
	if parts := regexp.MustCompile(`^invalid value "(.*)" for flag -(\S+): parse error$`).FindStringSubmatch(text); parts != nil {
		return fmt.Errorf("-%s %q: %s", parts[2], parts[1], form(c.Command, parts[2]))
	}
	return err
}

// form is how the value of a flag is written.
func form(command *cli.Command, name string) string {
	for _, flag := range command.Flags {
		if !slices.Contains(flag.Names(), name) {
			continue
		}
		switch flag.(type) {
		case *cli.DurationFlag:
			return "write a time with its unit, such as 1s or 500ms"
		case *cli.IntFlag:
			return "write a whole number"
		}
	}
	return "it cannot be read"
}

// meant asks whether one of the names was meant that differ little from a word; "" if
// there is none.
func meant(word string, names []string) string {
	best, least := "", 1+len(word)/3
	for _, name := range names {
		if d := distance(word, name); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is how many letters are to be put in, left out or changed to make b of a
// (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}
