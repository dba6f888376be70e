package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/jobs"
)

const jobArgument = "NAME|FILE|-"

func jobValidateCommand() *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "check a job by Nomad, and for what commonly goes wrong with sidecars",
		ArgsUsage: jobArgument,
		Description: "Status 0 means that Nomad would take the job. Warnings do not change that, unless -strict is\n" +
			"given.\n\n" +
			"Examples:\n\n" +
			"  serai job validate web.nomad.hcl\n" +
			"  serai job validate service -var name=web -var command=/usr/local/bin/web\n" +
			"  nomad-pack render . | serai job validate -strict -",
		Flags: append(append(variableFlags(), &cli.BoolFlag{Name: "strict", Usage: "end with status 1 if there is any warning"}), nomadFlags()...),
		Action: func(c *cli.Context) error {
			client, job, err := loadJob(c)
			if err != nil {
				return err
			}
			defer client.Close()
			report, err := client.Check(c.Context, job)
			if err != nil {
				return err
			}
			return tellReport(c, job, report)
		},
	}
}

func tellReport(c *cli.Context, job *jobs.Job, report *jobs.Report) error {
	for _, text := range report.Errors {
		fmt.Fprintf(c.App.Writer, "%s %s\n", paint(os.Stdout, red, "error:"), text)
	}
	for _, text := range report.Warnings {
		fmt.Fprintf(c.App.Writer, "%s %s\n", paint(os.Stdout, yellow, "warning:"), text)
	}
	for _, advice := range report.Advice {
		fmt.Fprintf(c.App.Writer, "%s %s: %s\n         %s\n", paint(os.Stdout, yellow, "warning:"), advice.Where, advice.Text, advice.Remedy)
	}
	warnings := len(report.Warnings) + len(report.Advice)
	switch {
	case len(report.Errors) > 0:
		return fmt.Errorf("job %q is not valid", job.ID)
	case c.Bool("strict") && warnings > 0:
		return fmt.Errorf("job %q is valid, but there are warnings", job.ID)
	}
	fmt.Fprintf(c.App.Writer, "job %q is valid\n", job.ID)
	return nil
}

func jobPlanCommand() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "show what Nomad would change, and change nothing",
		ArgsUsage: jobArgument,
		Description: "Status 0: nothing would change; 1: something would; 255: an error.\n\n" +
			"Examples:\n\n" +
			"  serai job plan web.nomad.hcl\n" +
			"  serai job plan edge -var port=80",
		Flags: append(append(variableFlags(), &cli.BoolFlag{Name: "verbose", Usage: "show all that is in what is new"}), nomadFlags()...),
		Action: func(c *cli.Context) error {
			changes, err := planJob(c)
			switch {
			case err != nil:
				return &exitError{code: 255, err: err}
			case changes:
				return &exitError{code: 1}
			default:
				return nil
			}
		},
	}
}

func planJob(c *cli.Context) (changes bool, err error) {
	client, job, err := loadJob(c)
	if err != nil {
		return false, err
	}
	defer client.Close()
	plan, err := client.Plan(c.Context, job)
	if err != nil {
		return false, err
	}
	if err := plan.Write(c.App.Writer, jobs.PlanStyle{Colour: colours(os.Stdout), Verbose: c.Bool("verbose")}); err != nil {
		return false, err
	}
	_, err = fmt.Fprintf(c.App.Writer, "\nJob modify index: %d\nTo run it only if nobody changes it before: serai job run -check-index %[1]d %s\n",
		plan.ModifyIndex, c.Args().First())
	return plan.Changes, err
}

func jobRunCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a job, and follow it until it is healthy",
		ArgsUsage: jobArgument,
		Description: "Status 0 means that all of it is healthy (or registered, with -detach).\n\n" +
			"Examples:\n\n" +
			"  serai job run service -var name=web -var command=/usr/local/bin/web\n" +
			"  serai job run web.nomad.hcl -var-file prod.hcl\n" +
			"  serai job run -check-index 1204 web.nomad.hcl",
		Flags: append(append(variableFlags(),
			&cli.Uint64Flag{Name: "check-index", Usage: "fail if the job's modify `index` is another one now; 0: if the job is there"},
			&cli.BoolFlag{Name: "detach", Usage: "do not follow"}), nomadFlags()...),
		Action: func(c *cli.Context) error {
			client, job, err := loadJob(c)
			if err != nil {
				return err
			}
			defer client.Close()
			options := jobs.RunOptions{Detach: c.Bool("detach"), Out: c.App.Writer, Colour: colours(os.Stdout)}
			if c.IsSet("check-index") {
				options.CheckIndex = new(c.Uint64("check-index"))
			}
			return client.Run(c.Context, job, options)
		},
	}
}

// exitError ends the process with a status of its own.
type exitError struct {
	code int
	err  error // nil: nothing is to be told
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// writer is an error that shows itself with the lines it is about.
type writer interface {
	error
	Write(w io.Writer, colour bool) error
}

// shown is the writer in err, or nil.
func shown(err error) writer {
	w, _ := errors.AsType[writer](err)
	return w
}
