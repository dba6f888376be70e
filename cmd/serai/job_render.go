package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/jobs"
)

func jobRenderCommand() *cli.Command {
	return &cli.Command{
		Name:      "render",
		Usage:     "print a job file with values in it; without a name, list what there is",
		ArgsUsage: "[NAME|FILE|-]",
		Description: "The values become the defaults of the file's variables, so that the result can be run as it\n" +
			"is, or with other values, also by nomad itself. No Nomad is asked.\n\n" +
			"Examples:\n\n" +
			"  serai job render\n" +
			"  serai job render service -variables\n" +
			"  serai job render edge -var port=80 -var \"config=$(cat edge.hcl)\" -out edge.nomad.hcl",
		Flags: append(variableFlags(),
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write to `file` instead of standard output"},
			&cli.BoolFlag{Name: "variables", Usage: "list the variables instead"}),
		Action: runJobRender,
	}
}

func runJobRender(c *cli.Context) error {
	if !c.Args().Present() {
		_, err := io.WriteString(c.App.Writer, specList())
		return err
	}
	if c.Bool("variables") {
		file, err := jobs.Open(c.Args().First(), c.App.Reader)
		if err != nil {
			return err
		}
		return listVariables(c.App.Writer, file)
	}
	file, values, err := openJob(c)
	if err != nil {
		return err
	}
	text, err := file.Render(values)
	if err != nil {
		return err
	}
	if path := c.String("out"); path != "" {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("write job file: %w", err)
		}
		return nil
	}
	_, err = c.App.Writer.Write(text)
	return err
}

func listVariables(w io.Writer, file *jobs.File) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tTYPE\tDEFAULT\tMEANING")
	for _, v := range file.Variables {
		value := v.Default
		if v.Required {
			value = "(must be given)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v.Name, v.Type, value, v.Description)
	}
	return table.Flush()
}
