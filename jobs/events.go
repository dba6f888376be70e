package jobs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	nomad "github.com/hashicorp/nomad/api"
)

const (
	// tailBytes is how much of a failed task's errors is shown at most, and
	// tailLines how many lines of it.
	tailBytes, tailLines = 4096, 10
	// tailTime bounds the wait for them: they are at the node, which may be gone.
	tailTime = 5 * time.Second
)

// events tells what went wrong with tasks, each event once. When Nomad gives up
// a task its last words are shown at once: the deployment may go on for minutes.
func (f *follower) events(ctx context.Context, allocs []*nomad.AllocationListStub) {
	ended := false
	for _, a := range allocs {
		for _, task := range slices.Sorted(maps.Keys(a.TaskStates)) {
			for _, event := range a.TaskStates[task].Events {
				if key := fmt.Sprint(a.ID, task, event.Time, event.Type); trouble(event) && !f.told[key] {
					f.told[key] = true
					f.out.say("  %s%s on %s, task %q:%s %s: %s", f.out.ink.yellow, a.Name, a.NodeName, task, f.out.ink.plain,
						event.Type, event.DisplayMessage+hint(event))
					ended = ended || event.Type == nomad.TaskNotRestarting
				}
			}
		}
	}
	if ended {
		f.logs(ctx, allocs)
	}
}

// hint tells where to look on if Nomad itself does not know more.
func hint(event *nomad.TaskEvent) string {
	if event.Type == "Alloc Unhealthy" && strings.Contains(event.DisplayMessage, "healthy_deadline") {
		return " (the service's checks in Consul tell which of them does not pass)"
	}
	return ""
}

// trouble says that an event is none of a task that goes well.
func trouble(event *nomad.TaskEvent) bool {
	switch event.Type {
	case nomad.TaskSetupFailure, nomad.TaskDriverFailure, nomad.TaskFailedValidation, nomad.TaskArtifactDownloadFailed,
		nomad.TaskNotRestarting, nomad.TaskSiblingFailed, "Alloc Unhealthy", "Task hook failed", "Template failed", "Killing due to failure":
		return true
	case nomad.TaskTerminated:
		return event.Details["exit_code"] != "0" || event.Details["oom_killed"] == "true"
	case "Template":
		return strings.Contains(event.DisplayMessage, "Missing") || strings.Contains(event.DisplayMessage, "failed")
	default:
		return false
	}
}

// logs shows how the errors of failed tasks end. It is a help: what cannot be
// read is left out.
func (f *follower) logs(ctx context.Context, allocs []*nomad.AllocationListStub) {
	for _, a := range allocs {
		for _, task := range slices.Sorted(maps.Keys(a.TaskStates)) {
			state := a.TaskStates[task]
			key := "log of " + task // of each task once: its twins mostly tell the same
			if f.told[key] || !state.Failed && state.Restarts == 0 {
				continue
			}
			if text := f.tail(ctx, a, task); text != "" {
				f.told[key] = true
				f.out.say("  last lines of standard error of %s, task %q:", a.Name, task)
				for line := range strings.Lines(text) {
					f.out.say("    %s", strings.TrimRight(line, "\r\n"))
				}
			}
		}
	}
}

// tail is the end of a task's standard error; "" if there is none.
func (f *follower) tail(ctx context.Context, a *nomad.AllocationListStub, task string) string {
	ctx, cancel := context.WithTimeout(ctx, tailTime)
	defer cancel()
	query := f.job.query(ctx)
	alloc, _, err := f.client.api.Allocations().Info(a.ID, query)
	if err != nil {
		return ""
	}
	frames, errs := f.client.api.AllocFS().Logs(alloc, false, task, "stderr", nomad.OriginEnd, tailBytes, ctx.Done(), f.job.query(ctx))
	var text strings.Builder
	for frames != nil {
		select {
		case frame, ok := <-frames:
			if !ok {
				frames = nil
			} else if frame != nil {
				text.Write(frame.Data)
			}
		case <-errs: //nolint:errcheck // what cannot be read is left out
			frames = nil
		case <-ctx.Done():
			frames = nil
		}
	}
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
