package jobs

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	nomad "github.com/hashicorp/nomad/api"
)

// Plan is what Nomad would do with a job.
type Plan struct {
	// Changes says whether it would start or stop anything, or has another job
	// to keep.
	Changes bool
	// ModifyIndex is that of the job which is there now, 0 if there is none. A
	// run with it as its check index fails if the job has changed meanwhile.
	ModifyIndex uint64
	// Unplaced says, by group, why Nomad would find no place now.
	Unplaced map[string][]string
	// Warnings are Nomad's.
	Warnings []string

	diff    *nomad.JobDiff
	updates map[string]*nomad.DesiredUpdates
}

// Plan asks Nomad what it would do. Nothing happens.
func (c *Client) Plan(ctx context.Context, j *Job) (*Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, _, err := c.api.Jobs().Plan(j.spec, true, j.write(ctx))
	if err != nil {
		return nil, fmt.Errorf("plan job %q: %w", j.ID, c.explain(err, need{"submit-job", j.Namespace}))
	}
	return newPlan(answer), nil
}

// newPlan reads Nomad's answer.
func newPlan(answer *nomad.JobPlanResponse) *Plan {
	p := &Plan{ModifyIndex: answer.JobModifyIndex, Warnings: listed(answer.Warnings), diff: answer.Diff, Unplaced: map[string][]string{}}
	p.Changes = answer.Diff != nil && answer.Diff.Type != "None"
	if answer.Annotations != nil {
		p.updates = answer.Annotations.DesiredTGUpdates
	}
	same := !p.Changes
	for _, update := range p.updates {
		if same {
			// Nomad notes a new index of the same job at its allocations: nothing that anybody would notice.
			update.Ignore, update.InPlaceUpdate = update.Ignore+update.InPlaceUpdate, 0
		}
		if update.Place+update.Stop+update.Migrate+update.DestructiveUpdate+update.InPlaceUpdate+update.Canary > 0 {
			p.Changes = true
		}
	}
	for group, metric := range answer.FailedTGAllocs {
		p.Unplaced[group] = unplaced(metric)
	}
	return p
}

// unplaced says why no node fits.
func unplaced(m *nomad.AllocationMetric) []string {
	var why []string
	if m.NodesEvaluated == 0 {
		why = append(why, fmt.Sprintf("no node is there to look at: %d in pool %q", m.NodesInPool, m.NodePool))
	}
	for _, dc := range slices.Sorted(maps.Keys(m.NodesAvailable)) {
		if m.NodesAvailable[dc] == 0 {
			why = append(why, fmt.Sprintf("datacenter %q has no node that may take jobs", dc))
		}
	}
	for _, one := range slices.Sorted(maps.Keys(m.ConstraintFiltered)) {
		why = append(why, fmt.Sprintf("%s does not hold on %s", one, nodesOf(m.ConstraintFiltered[one])))
	}
	for _, one := range slices.Sorted(maps.Keys(m.ClassFiltered)) {
		why = append(why, fmt.Sprintf("class %q is excluded on %s", one, nodesOf(m.ClassFiltered[one])))
	}
	for _, one := range slices.Sorted(maps.Keys(m.DimensionExhausted)) {
		why = append(why, fmt.Sprintf("%s has not enough room for %s", nodesOf(m.DimensionExhausted[one]), one))
	}
	for _, one := range m.QuotaExhausted {
		why = append(why, "quota is used up: "+one)
	}
	return why
}

func nodesOf(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// PlanStyle says how a plan is shown.
type PlanStyle struct {
	// Colour says that there may be ANSI escapes, for terminals.
	Colour bool
	// Verbose shows all that is in what is new, not only that it is.
	Verbose bool
}

// Write shows the plan.
func (p *Plan) Write(w io.Writer, style PlanStyle) error {
	d := &differ{ink: palette(style.Colour), verbose: style.Verbose}
	d.job(p.diff, p.updates)
	for _, group := range slices.Sorted(maps.Keys(p.Unplaced)) {
		fmt.Fprintf(&d.b, "\n%sGroup %q would find no place now:%s\n", d.ink.yellow, group, d.ink.plain)
		for _, why := range p.Unplaced[group] {
			fmt.Fprintf(&d.b, "  %s\n", why)
		}
	}
	for _, one := range p.Warnings {
		fmt.Fprintf(&d.b, "\n%swarning:%s %s\n", d.ink.yellow, d.ink.plain, one)
	}
	if !p.Changes {
		d.b.WriteString("\nNothing would change.\n")
	}
	if _, err := io.WriteString(w, d.b.String()); err != nil {
		return fmt.Errorf("show plan: %w", err)
	}
	return nil
}
