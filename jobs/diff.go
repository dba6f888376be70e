package jobs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	nomad "github.com/hashicorp/nomad/api"
)

// differ writes a diff: a mark, then what it is about, deeper by two spaces in
// each block.
type differ struct {
	ink     colours
	verbose bool
	b       strings.Builder
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
	d.inside(1, diff.Type, diff.Fields, diff.Objects)
	for _, group := range diff.TaskGroups {
		counts := told(updates[group.Name])
		if group.Type == "None" && counts == "" {
			continue
		}
		d.line(1, group.Type, "%sgroup %q%s%s", d.ink.bold, group.Name, d.ink.plain, counts)
		d.inside(2, group.Type, group.Fields, group.Objects)
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
	d.inside(3, task.Type, task.Fields, task.Objects)
}

// inside shows what is in a job, a group or a task. Of one that is new or gone
// that would be all there is in it, which only the verbose want to see.
func (d *differ) inside(depth int, kind string, fields []*nomad.FieldDiff, objects []*nomad.ObjectDiff) {
	if kind == "Edited" || d.verbose {
		d.fields(depth, fields)
		d.objects(depth, objects)
	}
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
	fields = slices.SortedFunc(slices.Values(fields), byNameAndNumber)
	for _, f := range fields {
		was, is := readable(f.Name, f.Old), readable(f.Name, f.New)
		switch f.Type {
		case "Added":
			d.line(depth, f.Type, "%s = %s%s", f.Name, is, notes(f.Annotations))
		case "Deleted":
			d.line(depth, f.Type, "%s = %s%s", f.Name, was, notes(f.Annotations))
		case "Edited":
			d.line(depth, f.Type, "%s = %s -> %s%s", f.Name, was, is, notes(f.Annotations))
		}
	}
}

// byNameAndNumber puts args[2] before args[10].
func byNameAndNumber(a, b *nomad.FieldDiff) int {
	nameA, numberA, _ := strings.Cut(a.Name, "[")
	nameB, numberB, _ := strings.Cut(b.Name, "[")
	return cmp.Or(cmp.Compare(nameA, nameB), cmp.Compare(len(numberA), len(numberB)), cmp.Compare(numberA, numberB))
}

// readable is a field's value as a job file has it. Nomad tells durations in
// nanoseconds, by names that are known.
func readable(name, value string) string {
	switch name {
	case "Delay", "Interval", "MaxDelay", "HealthyDeadline", "MinHealthyTime", "ProgressDeadline", "Stagger", "KillTimeout",
		"ShutdownDelay", "Timeout", "TTL", "LostAfter", "StopOnClientAfter", "VaultGrace", "Splay", "Grace":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return strconv.Quote(time.Duration(n).String())
		}
	}
	return strconv.Quote(value)
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
