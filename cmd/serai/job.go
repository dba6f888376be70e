package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/jobs"
)

func jobCommand() *cli.Command {
	command := &cli.Command{
		Name:            "job",
		Usage:           "Nomad jobs: ours to render, and any to validate, plan and run",
		HideHelpCommand: true,
		Description: "The specs are ordinary job files with variables:\n\n" + specList() + "\n" +
			"Examples:\n\n" +
			"  serai job render                                  # what there is\n" +
			"  serai job render edge -var port=80 > edge.nomad.hcl\n" +
			"  serai job validate web.nomad.hcl\n" +
			"  serai job run edge -var 'services=[\"web\"]'",
		Subcommands: []*cli.Command{jobRenderCommand(), jobValidateCommand(), jobPlanCommand(), jobRunCommand()},
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return &usageError{command: "job", err: fmt.Errorf("there is no command %q: there are render, validate, plan and run", name)}
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
	for _, sub := range command.Subcommands {
		sub.BashComplete = completeSpecs
		sub.OnUsageError = func(c *cli.Context, err error, _ bool) error {
			return &usageError{command: "job " + sub.Name, err: plain(c, err)}
		}
	}
	return command
}

// specList is one line for each spec, indented.
func specList() string {
	var b strings.Builder
	for _, spec := range jobs.Specs() {
		fmt.Fprintf(&b, "  %-16s%s\n", spec.Name, spec.Summary)
	}
	return b.String()
}

// completeSpecs offers flags after a dash, and else the names of specs.
func completeSpecs(c *cli.Context) {
	cli.DefaultCompleteWithFlags(c.Command)(c)
	if len(os.Args) > 2 && strings.HasPrefix(os.Args[len(os.Args)-2], "-") || c.Args().Present() {
		return
	}
	for _, spec := range jobs.Specs() {
		fmt.Fprintln(c.App.Writer, spec.Name)
	}
}

// variableFlags give a job's variables values, as nomad's own do.
func variableFlags() []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "var", Value: &texts{}, Usage: "`name=value` of a variable; may be repeated"},
		&cli.GenericFlag{Name: "var-file", Value: &texts{}, Usage: "`file` with values, HCL or .json; may be repeated"},
	}
}

// texts is a flag that may be repeated. Unlike cli.StringSlice it does not take
// a value apart at its commas.
type texts []string

func (t *texts) Set(text string) error { *t = append(*t, text); return nil }
func (t *texts) String() string        { return "" }

// jobInput is what flags and environment say of variables.
func jobInput(c *cli.Context) jobs.Input {
	list := func(name string) []string {
		if t, ok := c.Generic(name).(*texts); ok {
			return *t
		}
		return nil
	}
	return jobs.Input{Environ: os.Environ(), Files: list("var-file"), Vars: list("var")}
}

// openJob opens the one job that the arguments name.
func openJob(c *cli.Context) (*jobs.File, *jobs.Values, error) {
	switch c.Args().Len() {
	case 0:
		return nil, nil, &usageError{command: "job " + c.Command.Name, err: errors.New("which job? Give the name of a spec, a file, or - for standard input")}
	case 1:
	default:
		return nil, nil, &usageError{command: "job " + c.Command.Name, err: fmt.Errorf("one job at a time, and %q is one too many", c.Args().Get(1))}
	}
	file, err := jobs.Open(c.Args().First(), c.App.Reader)
	if err != nil {
		return nil, nil, err
	}
	values, err := file.Values(jobInput(c))
	return file, values, err
}

// flagsFirst puts what stands after a job's name in front of it, since flags may
// stand there: "job run edge -var port=80", "connect explain GET /a -from web". The library would take them for
// arguments. args is the whole command line.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) < 3 || args[1] != "job" && args[1] != "connect" {
		return args
	}
	sub := app.Command(args[1])
	i := slices.IndexFunc(sub.Subcommands, func(c *cli.Command) bool { return c.Name == args[2] })
	if i < 0 {
		return args
	}
	words, completing := args[3:], false
	if n := len(words); n > 0 && words[n-1] == "--generate-bash-completion" {
		words, completing = words[:n-1], true
	}
	var flags, names []string
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--":
			names, words = append(names, words...), nil
		case word == "-" || !strings.HasPrefix(word, "-"):
			names = append(names, word)
		default:
			flags = append(flags, word)
			if takesValue(sub.Subcommands[i], word) && len(words) > 0 {
				flags, words = append(flags, words[0]), words[1:]
			}
		}
	}
	if completing {
		// The last word decides what is offered, so that it stays the last.
		return args
	}
	if len(names) > 0 && len(flags) > 0 {
		flags = append(flags, "--")
	}
	return slices.Concat(args[:3], flags, names)
}

// takesValue says that the word after a flag belongs to it.
func takesValue(command *cli.Command, word string) bool {
	name := strings.TrimLeft(word, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, flag := range command.Flags {
		if slices.Contains(flag.Names(), name) {
			_, alone := flag.(*cli.BoolFlag)
			return !alone
		}
	}
	return false
}
