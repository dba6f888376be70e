package jobs

import (
	"io"

	nomad "github.com/hashicorp/nomad/api"
)

// Advise is what Check says of a job. drivers are those that a node has, "" for
// none; image is the sidecar image that the nodes name.
func Advise(job *nomad.Job, drivers []string, image string) []Advice {
	known := &nodes{ready: 1, drivers: map[string]int{}, image: map[string]bool{image: true}}
	for _, driver := range drivers {
		known.drivers[driver] = 1
	}
	return advise(job, known)
}

// WritePlan shows a plan as Nomad answers it.
func WritePlan(w io.Writer, answer *nomad.JobPlanResponse, style PlanStyle) (bool, error) {
	p := newPlan(answer)
	return p.Changes, p.Write(w, style)
}

// ParseErrors is what is made of Nomad's answer to a file that it cannot parse.
func ParseErrors(file *File, body string) Errors { return parseErrors(file, body) }

// Listed takes apart a text of several errors.
func Listed(text string) []string { return listed(text) }
