// Package pluginpb is the protocol between Serai and its plugins; plugin.proto
// describes it and tells how this code was generated.
package pluginpb
