// Package trace makes spans of exchanges, hands traces on to upstreams, and sends
// the spans to collectors of Zipkin, OpenTelemetry and Datadog, as Envoy does.
//
//	request ── decide (x-request-id) ── extract ── span ── inject ──▶ upstream
//	                                                └── at the end ──▶ exporter, in batches
//
// A chain without a provider costs nothing and changes no field: those of traces
// belong to the applications then. Exporters never wait: what a collector does not
// take in time is dropped and counted.
//
// Alternative not taken: the SDK of OpenTelemetry. It has its own idea of sampling
// and of a span's parent, allocates for each attribute, and knows neither Zipkin's
// shared spans nor Datadog; of OTLP only the messages are needed here.
package trace
