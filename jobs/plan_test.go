package jobs_test

import (
	"bytes"
	"strings"
	"testing"

	nomad "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/jobs"
)

// edited is an answer of Nomad's to a job that has changed.
func edited() *nomad.JobPlanResponse {
	return &nomad.JobPlanResponse{
		JobModifyIndex: 12,
		Warnings:       "1 warning:\n\n* Group \"web\" has warnings",
		Diff: &nomad.JobDiff{Type: "Edited", ID: "web", TaskGroups: []*nomad.TaskGroupDiff{
			{
				Type: "Edited", Name: "web",
				Fields:  []*nomad.FieldDiff{{Type: "Edited", Name: "Count", Old: "2", New: "3", Annotations: []string{"forces create"}}},
				Objects: []*nomad.ObjectDiff{{Type: "Edited", Name: "Update", Fields: []*nomad.FieldDiff{{Type: "Edited", Name: "MinHealthyTime", Old: "10000000000", New: "1500000000"}}}},
				Tasks: []*nomad.TaskDiff{
					{Type: "Edited", Name: "web", Annotations: []string{"forces create/destroy update"}, Objects: []*nomad.ObjectDiff{{Type: "Edited", Name: "Config", Fields: []*nomad.FieldDiff{
						{Type: "Added", Name: "args[10]", New: "-v"}, {Type: "Deleted", Name: "args[2]", Old: "-q"},
					}}}},
					{Type: "None", Name: "same"},
				},
			},
			{Type: "Added", Name: "new", Fields: []*nomad.FieldDiff{{Type: "Added", Name: "Count", New: "1"}}},
			{Type: "Deleted", Name: "old", Tasks: []*nomad.TaskDiff{{Type: "Deleted", Name: "gone"}}},
		}},
		Annotations: &nomad.PlanAnnotations{DesiredTGUpdates: map[string]*nomad.DesiredUpdates{
			"web": {DestructiveUpdate: 2, Place: 1}, "new": {Place: 1}, "old": {Stop: 1},
		}},
		FailedTGAllocs: map[string]*nomad.AllocationMetric{"new": {
			NodesEvaluated: 1, ConstraintFiltered: map[string]int{"missing drivers": 1}, DimensionExhausted: map[string]int{"memory": 2},
		}},
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answer  *nomad.JobPlanResponse
		style   jobs.PlanStyle
		changes bool
	}{
		{"edited", edited(), jobs.PlanStyle{}, true},
		{"colour", edited(), jobs.PlanStyle{Colour: true}, true},
		{"verbose", edited(), jobs.PlanStyle{Verbose: true}, true},
		{"same", &nomad.JobPlanResponse{
			Diff: &nomad.JobDiff{Type: "None", ID: "web", TaskGroups: []*nomad.TaskGroupDiff{{Type: "None", Name: "web"}}},
			Annotations: &nomad.PlanAnnotations{DesiredTGUpdates: map[string]*nomad.DesiredUpdates{
				"web": {InPlaceUpdate: 2},
			}},
		}, jobs.PlanStyle{}, false},
		{"place", &nomad.JobPlanResponse{
			Diff:        &nomad.JobDiff{Type: "None", ID: "web", TaskGroups: []*nomad.TaskGroupDiff{{Type: "None", Name: "web"}}},
			Annotations: &nomad.PlanAnnotations{DesiredTGUpdates: map[string]*nomad.DesiredUpdates{"web": {Place: 1, Ignore: 1}}},
		}, jobs.PlanStyle{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			changes, err := jobs.WritePlan(&b, c.answer, c.style)
			if err != nil || changes != c.changes {
				t.Errorf("got changes %v, %v; want %v", changes, err, c.changes)
			}
			if strings.Contains(b.String(), "\x1b") != c.style.Colour {
				t.Errorf("colours: want %v, got %q", c.style.Colour, b.String())
			}
			golden(t, "plan-"+c.name, b.Bytes())
		})
	}
}
