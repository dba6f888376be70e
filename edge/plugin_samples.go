package edge

import (
	"iter"

	"github.com/serai-net/serai/agent/telemetry"
)

// pluginSamples shows what plugins count.
func pluginSamples(all []PluginStats) iter.Seq[telemetry.Sample] {
	return func(yield func(telemetry.Sample) bool) {
		for i := range all {
			for _, sample := range all[i].samples() {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

func (s *PluginStats) samples() []telemetry.Sample {
	own := []telemetry.Label{{Name: "plugin", Value: s.Name}}
	of := func(name, value string) []telemetry.Label {
		return []telemetry.Label{own[0], {Name: name, Value: value}}
	}
	up := 0.0
	if s.Up {
		up = 1
	}
	const (
		failures = "serai_plugin_failures_total"
		whatFail = "Calls that a plugin did not answer as it should, by reason."
		decided  = "serai_plugin_failed_exchanges_total"
		whatMode = "Exchanges for which a plugin failed, by what its fail mode made of them."
	)
	return []telemetry.Sample{
		{Name: "serai_plugin_up", Help: "Whether the plugin's process runs.", Kind: telemetry.Gauge, Labels: own, Value: up},
		{Name: "serai_plugin_calls_total", Help: "Calls begun.", Labels: own, Value: float64(s.Calls)},
		{Name: "serai_plugin_calls_active", Help: "Calls under way.", Kind: telemetry.Gauge, Labels: own, Value: float64(s.Active)},
		{Name: "serai_plugin_calls_waiting", Help: "Calls that wait for a place.", Kind: telemetry.Gauge, Labels: own, Value: float64(s.Waiting)},
		{Name: "serai_plugin_refused_total", Help: "Calls that the plugin answered with a refusal.", Labels: own, Value: float64(s.Refused)},
		{Name: "serai_plugin_canceled_total", Help: "Calls whose client went away.", Labels: own, Value: float64(s.Canceled)},
		{Name: failures, Help: whatFail, Labels: of("reason", "unavailable"), Value: float64(s.Unavailable)},
		{Name: failures, Help: whatFail, Labels: of("reason", "timeout"), Value: float64(s.Timeouts)},
		{Name: failures, Help: whatFail, Labels: of("reason", "overload"), Value: float64(s.Overloads)},
		{Name: failures, Help: whatFail, Labels: of("reason", "protocol"), Value: float64(s.Violations)},
		{Name: failures, Help: whatFail, Labels: of("reason", "plugin"), Value: float64(s.Failed)},
		{Name: decided, Help: whatMode, Labels: of("mode", "closed"), Value: float64(s.FailedClosed)},
		{Name: decided, Help: whatMode, Labels: of("mode", "open"), Value: float64(s.FailedOpen)},
		{Name: "serai_plugin_unknown_consumers_total", Help: "Answers that named a consumer that there is not.", Labels: own, Value: float64(s.UnknownConsumers)},
		{Name: "serai_plugin_starts_total", Help: "Processes started.", Labels: own, Value: float64(s.Starts)},
		{Name: "serai_plugin_start_failures_total", Help: "Starts that failed.", Labels: own, Value: float64(s.StartFails)},
		{Name: "serai_plugin_unexpected_ends_total", Help: "Processes that ended though nobody asked for it.", Labels: own, Value: float64(s.Ends)},
	}
}
