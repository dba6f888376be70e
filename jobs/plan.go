package jobs

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

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
	p := &Plan{ModifyIndex: answer.JobModifyIndex, Warnings: listed(answer.Warnings), diff: answer.Diff, Unplaced: map[string][]string{}}
	p.Changes = answer.Diff != nil && answer.Diff.Type != "None"
	if answer.Annotations != nil {
		p.updates = answer.Annotations.DesiredTGUpdates
	}
	for _, update := range p.updates {
		if update.Place+update.Stop+update.Migrate+update.DestructiveUpdate+update.InPlaceUpdate+update.Canary > 0 {
			p.Changes = true
		}
	}
	for group, metric := range answer.FailedTGAllocs {
		p.Unplaced[group] = unplaced(metric)
	}
	return p, nil
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

// Write shows the plan. With colour the text has ANSI escapes, for terminals.
func (p *Plan) Write(w io.Writer, colour bool) error {
	d := &differ{ink: palette(colour)}
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

// differ writes a diff: a mark, then what it is about, deeper by two spaces in
// each block.
type differ struct {
	ink colours
	b   strings.Builder
}

// mark is the sign of a type of change, in its colour.
func (d *differ) mark(kind string) string {
	switch kind {
	case "Added":
		return d.ink.green + "+" + d.ink.plain
	case "Deleted":
		return d.ink.red + "-" + d.ink.plain
	case "Edited":
		return d.ink.yellow + "~" + d.ink.plain
	default:
		return " "
	}
}

func (d *differ) line(depth int, kind, format string, args ...any) {
	fmt.Fprintf(&d.b, "%s%s %s\n", strings.Repeat("  ", depth), d.mark(kind), fmt.Sprintf(format, args...))
}

func (d *differ) job(diff *nomad.JobDiff, updates map[string]*nomad.DesiredUpdates) {
	if diff == nil {
		return
	}
	d.line(0, diff.Type, "%sjob %q%s", d.ink.bold, diff.ID, d.ink.plain)
	d.fields(1, diff.Fields)
	d.objects(1, diff.Objects)
	for _, group := range diff.TaskGroups {
		counts := told(updates[group.Name])
		if group.Type == "None" && counts == "" {
			continue
		}
		d.line(1, group.Type, "%sgroup %q%s%s", d.ink.bold, group.Name, d.ink.plain, counts)
		if group.Type == "Deleted" {
			continue // what was in it is of no use
		}
		d.fields(2, group.Fields)
		d.objects(2, group.Objects)
		for _, task := range group.Tasks {
			d.task(task)
		}
	}
}

func (d *differ) task(task *nomad.TaskDiff) {
	if task.Type == "None" && len(task.Annotations) == 0 {
		return
	}
	d.line(2, task.Type, "task %q%s", task.Name, notes(task.Annotations))
	if task.Type == "Deleted" {
		return
	}
	d.fields(3, task.Fields)
	d.objects(3, task.Objects)
}

func (d *differ) objects(depth int, objects []*nomad.ObjectDiff) {
	for _, object := range objects {
		if object.Type == "None" {
			continue
		}
		d.line(depth, object.Type, "%s", object.Name)
		d.fields(depth+1, object.Fields)
		d.objects(depth+1, object.Objects)
	}
}

func (d *differ) fields(depth int, fields []*nomad.FieldDiff) {
	for _, f := range fields {
		switch f.Type {
		case "Added":
			d.line(depth, f.Type, "%s = %q%s", f.Name, f.New, notes(f.Annotations))
		case "Deleted":
			d.line(depth, f.Type, "%s = %q%s", f.Name, f.Old, notes(f.Annotations))
		case "Edited":
			d.line(depth, f.Type, "%s = %q -> %q%s", f.Name, f.Old, f.New, notes(f.Annotations))
		}
	}
}

func notes(annotations []string) string {
	if len(annotations) == 0 {
		return ""
	}
	return " (" + strings.Join(annotations, ", ") + ")"
}

// told says how many allocations a group's update touches.
func told(u *nomad.DesiredUpdates) string {
	if u == nil {
		return ""
	}
	var parts []string
	for _, one := range []struct {
		count uint64
		what  string
	}{
		{u.Canary, "as canary"},
		{u.Place, "to start"},
		{u.DestructiveUpdate, "to replace"},
		{u.InPlaceUpdate, "to update in place"},
		{u.Migrate, "to migrate"},
		{u.Stop, "to stop"},
		{u.Ignore, "unchanged"},
	} {
		if one.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", one.count, one.what))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}
