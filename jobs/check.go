package jobs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	nomad "github.com/hashicorp/nomad/api"
)

// Report is what is to be said of a job that could be parsed.
type Report struct {
	// Errors are Nomad's: it would not take the job.
	Errors []string
	// Warnings are Nomad's own.
	Warnings []string
	// Advice is ours: Nomad would take the job, but it may not do what is meant.
	Advice []Advice
}

// Check has Nomad validate a job, and adds our advice. What of the advice needs
// to know the nodes is left out if the token may not read them; then the report
// says so.
func (c *Client) Check(ctx context.Context, j *Job) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, _, err := c.api.Jobs().Validate(j.spec, j.write(ctx))
	if err != nil {
		return nil, fmt.Errorf("validate job %q: %w", j.ID, c.explain(err, need{"read-job", j.Namespace}))
	}
	report := &Report{Errors: answer.ValidationErrors, Warnings: listed(answer.Warnings)}
	if len(report.Errors) == 0 && answer.Error != "" {
		report.Errors = listed(answer.Error)
	}
	nodes, err := c.nodes(ctx, j)
	if err != nil && !forbidden(err) {
		return nil, fmt.Errorf("look at the nodes: %w", c.explain(err, need{"read-job", j.Namespace}))
	}
	if err != nil {
		report.Warnings = append(report.Warnings, "the token may not read nodes (node:read), so it was not checked whether they have what the job needs")
	}
	report.Advice = advise(j.spec, nodes)
	return report, nil
}

// listed takes apart what Nomad joins into one text: "2 errors occurred:\n\t* a\n\t* b".
func listed(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	counted := regexp.MustCompile(`:? \d+ errors? occurred:$`)
	var all []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if item, ok := strings.CutPrefix(line, "* "); ok {
			all = append(all, counted.ReplaceAllString(item, ""))
		}
	}
	if len(all) == 0 {
		return []string{strings.TrimSpace(text)}
	}
	return all
}

func forbidden(err error) bool {
	answer, ok := errors.AsType[nomad.UnexpectedResponseError](err)
	return ok && answer.StatusCode() == 403
}

// nodes is what advice needs to know of nodes.
type nodes struct {
	ready   int             // how many may take jobs
	drivers map[string]int  // on how many of them a driver is healthy
	image   map[string]bool // connect.sidecar_image of those that were asked; "" where it is Nomad's own
}

// askedNodes bounds how many nodes are asked one by one.
const askedNodes = 20

func (c *Client) nodes(ctx context.Context, j *Job) (*nodes, error) {
	list, _, err := c.api.Nodes().List(j.query(ctx))
	if err != nil {
		return nil, err
	}
	found := &nodes{drivers: map[string]int{}, image: map[string]bool{}}
	for _, node := range list {
		if node.Status != nomad.NodeStatusReady || node.SchedulingEligibility != nomad.NodeSchedulingEligible {
			continue
		}
		found.ready++
		for name, driver := range node.Drivers {
			if driver.Healthy {
				found.drivers[name]++
			}
		}
		if found.ready > askedNodes {
			continue
		}
		full, _, err := c.api.Nodes().Info(node.ID, j.query(ctx))
		if err != nil {
			return nil, err
		}
		found.image[full.Meta["connect.sidecar_image"]] = true
	}
	return found, nil
}
