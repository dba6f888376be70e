package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	nomad "github.com/hashicorp/nomad/api"
)

// RunOptions say how a job is run.
type RunOptions struct {
	// CheckIndex, if not nil, is the ModifyIndex that the job must have now, as
	// Plan told it; 0 is that of a job which is not there. It keeps one from
	// overwriting what another has changed meanwhile.
	CheckIndex *uint64
	// Detach does not wait for what comes of it.
	Detach bool
	// Out is told what happens, line by line; nil is nobody.
	Out io.Writer
	// Colour says that Out takes ANSI escapes.
	Colour bool
}

// Run registers a job, and follows it until all of it is healthy, or until it is
// clear that this will not be. The error then holds why. If ctx ends the job
// goes on all the same.
func (c *Client) Run(ctx context.Context, j *Job, options RunOptions) error {
	if options.Out == nil {
		options.Out = io.Discard
	}
	out := &teller{w: options.Out, ink: palette(options.Colour)}
	answer, err := c.register(ctx, j, options.CheckIndex)
	if err != nil {
		return err
	}
	for _, one := range listed(answer.Warnings) {
		out.say("%swarning:%s %s", out.ink.yellow, out.ink.plain, one)
	}
	out.say("job %q is registered, modify index %d", j.ID, answer.JobModifyIndex)
	if options.Detach || answer.EvalID == "" { // without an evaluation: a periodic or parameterized job
		return out.err
	}
	f := &follower{client: c, job: j, out: out, told: map[string]bool{}, seen: map[string]sighting{}}
	if err := f.follow(ctx, answer.EvalID); err != nil {
		_, refused := errors.AsType[nomad.UnexpectedResponseError](err)
		_, lost := errors.AsType[*url.Error](err)
		if refused || lost {
			err = fmt.Errorf("registered, but not followed: %w", c.explain(err, need{"read-job", j.Namespace}))
		}
		if ctx.Err() != nil {
			err = fmt.Errorf(`not followed to its end, it goes on: see "nomad job status %s"`, j.ID)
		}
		return fmt.Errorf("run job %q: %w", j.ID, err)
	}
	return out.err
}

func (c *Client) register(ctx context.Context, j *Job, index *uint64) (*nomad.JobRegisterResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	options := &nomad.RegisterOptions{
		Submission: &nomad.JobSubmission{Source: string(j.file.Text), Format: "hcl2", Variables: j.values.Text()},
	}
	if index != nil {
		options.EnforceIndex, options.ModifyIndex = true, *index
	}
	answer, _, err := c.api.Jobs().RegisterOpts(j.spec, options, j.write(ctx))
	if err == nil {
		return answer, nil
	}
	if refused, ok := errors.AsType[nomad.UnexpectedResponseError](err); ok && strings.Contains(refused.Body(), nomad.RegisterEnforceIndexErrPrefix) {
		return nil, fmt.Errorf("run job %q: somebody has changed it since (%s): plan it again, and give the index that the plan tells",
			j.ID, strings.TrimSpace(refused.Body()))
	}
	return nil, fmt.Errorf("run job %q: %w", j.ID, c.explain(err, need{"submit-job", j.Namespace}))
}

// teller writes lines, and remembers the first error of doing so.
type teller struct {
	w   io.Writer
	ink colours
	err error
}

func (t *teller) say(format string, args ...any) {
	if _, err := fmt.Fprintf(t.w, format+"\n", args...); err != nil && t.err == nil {
		t.err = fmt.Errorf("tell of progress: %w", err)
	}
}
