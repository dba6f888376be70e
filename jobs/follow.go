package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	nomad "github.com/hashicorp/nomad/api"
)

const (
	// lookEvery is how often is looked at least while a deployment goes on.
	lookEvery = time.Second
	// patience bounds the wait for what has no deadline of its own: evaluations,
	// and jobs without a deployment.
	patience = 5 * time.Minute
	// steadyTime is how long the tasks of a job without a deployment must have
	// run to be believed.
	steadyTime = 5 * time.Second
	// outageTime is how long Nomad may be out of reach while it is followed.
	outageTime = 30 * time.Second
)

// follower tells what comes of a job that was registered.
type follower struct {
	client *Client
	job    *Job
	out    *teller
	told   map[string]bool     // events and states that were told already
	seen   map[string]sighting // by allocation, of jobs without a deployment
}

// sighting is since when an allocation was seen to run as it does.
type sighting struct {
	started int64 // the sum of its tasks' start times: another one after a restart
	since   time.Time
}

// follow goes from the evaluation to the deployment, if there is one, or else to
// the allocations.
func (f *follower) follow(ctx context.Context, evalID string) error {
	eval, err := f.evaluate(ctx, evalID)
	if err != nil {
		return err
	}
	for _, group := range slices.Sorted(maps.Keys(eval.FailedTGAllocs)) {
		f.out.say("%sgroup %q finds no place:%s %s", f.out.ink.yellow, group, f.out.ink.plain, strings.Join(unplaced(eval.FailedTGAllocs[group]), "; "))
	}
	if eval.DeploymentID != "" {
		return f.deployment(ctx, eval.DeploymentID)
	}
	if len(eval.FailedTGAllocs) > 0 {
		return errors.New("not all of it found a place")
	}
	return f.allocations(ctx)
}

// evaluate waits until the scheduler has decided.
func (f *follower) evaluate(ctx context.Context, id string) (*nomad.Evaluation, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the scheduler did not decide in time"))
	defer cancel()
	query := f.job.query(ctx)
	query.WaitTime = lookEvery
	for {
		var eval *nomad.Evaluation
		var meta *nomad.QueryMeta
		err := f.ask(ctx, func() (err error) {
			eval, meta, err = f.client.api.Evaluations().Info(id, query)
			return err
		})
		if err != nil {
			return nil, causeOf(ctx, err)
		}
		switch eval.Status {
		case nomad.EvalStatusComplete:
			return eval, nil
		case nomad.EvalStatusFailed, nomad.EvalStatusCancelled:
			return nil, fmt.Errorf("evaluation %s: %s", eval.Status, eval.StatusDescription)
		case nomad.EvalStatusBlocked:
			return nil, fmt.Errorf("no place for it: %s", eval.StatusDescription)
		}
		query.WaitIndex = meta.LastIndex
	}
}

// deployment follows a deployment to its end.
func (f *follower) deployment(ctx context.Context, id string) error {
	query := f.job.query(ctx)
	query.WaitTime = lookEvery
	for {
		var d *nomad.Deployment
		var allocs []*nomad.AllocationListStub
		err := f.ask(ctx, func() error {
			found, meta, err := f.client.api.Deployments().Info(id, query)
			if err != nil {
				return err
			}
			d, query.WaitIndex = found, meta.LastIndex
			allocs, _, err = f.client.api.Deployments().Allocations(id, f.job.query(ctx))
			return err
		})
		if err != nil {
			return err
		}
		f.progress(d)
		f.events(ctx, allocs)
		switch d.Status {
		case nomad.DeploymentStatusSuccessful:
			f.out.say("%sjob %q is healthy%s, version %d", f.out.ink.green, f.job.ID, f.out.ink.plain, d.JobVersion)
			return nil
		case nomad.DeploymentStatusFailed, nomad.DeploymentStatusCancelled:
			f.logs(ctx, allocs)
			return fmt.Errorf("deployment %s %s: %s", short(d.ID), d.Status, lowerFirst(d.StatusDescription))
		}
		if canariesWait(d) {
			f.out.say(`the canaries are healthy: promote them with "nomad deployment promote %s", or go back with "nomad deployment fail %s"`, short(d.ID), short(d.ID))
			return nil
		}
	}
}

// progress tells how far a deployment is, if that has changed.
func (f *follower) progress(d *nomad.Deployment) {
	for _, name := range slices.Sorted(maps.Keys(d.TaskGroups)) {
		g := d.TaskGroups[name]
		text := fmt.Sprintf("deployment %s: group %q has %d of %d healthy", short(d.ID), name, g.HealthyAllocs, g.DesiredTotal)
		if g.DesiredCanaries > 0 && !g.Promoted {
			text = fmt.Sprintf("deployment %s: group %q has %d of %d canaries healthy", short(d.ID), name, g.HealthyAllocs, g.DesiredCanaries)
		}
		if g.UnhealthyAllocs > 0 {
			text += fmt.Sprintf(", %s%d unhealthy%s", f.out.ink.red, g.UnhealthyAllocs, f.out.ink.plain)
		}
		f.once(text)
	}
}

// canariesWait says that all that is missing is a decision of the operator.
func canariesWait(d *nomad.Deployment) bool {
	waiting := false
	for _, g := range d.TaskGroups {
		if g.DesiredCanaries == 0 || g.Promoted {
			continue
		}
		if g.HealthyAllocs < g.DesiredCanaries {
			return false
		}
		waiting = true
	}
	return waiting && d.Status == nomad.DeploymentStatusRunning && strings.Contains(d.StatusDescription, "requires manual promotion")
}

// allocations follows a job that has no deployment: a system or batch job, or
// one that has not changed.
func (f *follower) allocations(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not all of it runs after %v", patience))
	defer cancel()
	var spec *nomad.Job
	err := f.ask(ctx, func() (err error) {
		spec, _, err = f.client.api.Jobs().Info(f.job.ID, f.job.query(ctx))
		return err
	})
	if err != nil {
		return causeOf(ctx, err)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var allocs []*nomad.AllocationListStub
		err := f.ask(ctx, func() (err error) {
			allocs, _, err = f.client.api.Jobs().Allocations(f.job.ID, false, f.job.query(ctx))
			return err
		})
		if err != nil {
			return causeOf(ctx, err)
		}
		allocs = slices.DeleteFunc(allocs, func(a *nomad.AllocationListStub) bool {
			return a.JobVersion != *spec.Version || a.DesiredStatus != nomad.AllocDesiredStatusRun
		})
		f.events(ctx, allocs)
		done, failed := f.steady(allocs)
		if len(failed) > 0 {
			f.logs(ctx, allocs)
			return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
		}
		f.once(fmt.Sprintf("%d of %d allocations run steadily", done, len(allocs)))
		if done == len(allocs) {
			f.out.say("%sjob %q runs%s, version %d", f.out.ink.green, f.job.ID, f.out.ink.plain, *spec.Version)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// steady counts the allocations that are as they should be, and names those that
// have failed.
func (f *follower) steady(allocs []*nomad.AllocationListStub) (done int, failed []string) {
	for _, a := range allocs {
		switch a.ClientStatus {
		case nomad.AllocClientStatusComplete:
			done++
		case nomad.AllocClientStatusFailed, nomad.AllocClientStatusLost:
			failed = append(failed, a.Name)
		case nomad.AllocClientStatusRunning:
			started := int64(0)
			runs := len(a.TaskStates) > 0
			for _, state := range a.TaskStates {
				started += state.StartedAt.UnixNano()
				runs = runs && (state.State == "running" || state.State == "dead" && !state.Failed)
			}
			last := f.seen[a.ID]
			if !runs || last.started != started {
				f.seen[a.ID] = sighting{started, time.Now()}
			} else if time.Since(last.since) >= steadyTime {
				done++
			}
		}
	}
	return done, failed
}

// ask asks again while Nomad cannot be reached, since a deployment goes on when
// an agent restarts. It gives up after outageTime.
func (f *follower) ask(ctx context.Context, call func() error) error {
	began := time.Now()
	for {
		err := call()
		if _, lost := errors.AsType[*url.Error](err); !lost || ctx.Err() != nil || time.Since(began) > outageTime {
			return err
		}
		f.once("nomad cannot be reached, trying again")
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// causeOf is why ctx ended, if it did, and err else.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (f *follower) once(text string) {
	if !f.told[text] {
		f.told[text] = true
		f.out.say("%s", text)
	}
}

func short(id string) string { return id[:min(8, len(id))] }

func lowerFirst(text string) string {
	if text == "" {
		return text
	}
	return strings.ToLower(text[:1]) + text[1:]
}
