// Package config reads Serai's one file format, HCL2 (or the same in HCL's JSON
// syntax), into the Config structs that the parts themselves own.
//
//	paths ── files ── hcl.Body (merged) ── decoder ── edge.Config, catalog.Config, ... ── their Validate
//	                                          │                                             │
//	                                          └────────────── Errors ◀──────────────────────┘
//
// A part's struct is the schema: its fields carry tags, which the decoder in
// this package reads, and their doc comments are the user's reference.
//
//	hcl:"name"              an argument that must be there
//	hcl:"name,optional"     an argument that may be missing: the zero value
//	hcl:"name,label"        the block's label
//	hcl:"name,block"        a block: struct pointer (at most one) or slice (any number)
//	hcl:"name,block,merge"  a block whose repetitions are one: files may share it
//	hcl:",pos"              where the block stands: a string "file.hcl:12", or a
//	                        map from argument name to position with the block's under ""
//
// The option "size" after "optional" (or alone) reads integers as "64KiB" or
// "10KB"; the option "path" takes a string as a path relative to the file it
// stands in.
//
// By convention an error of a part's Validate begins with such a position, so
// that parts can point at a line without knowing HCL.
//
// # Alternatives not taken
//
// gohcl: it knows neither durations, sizes, addresses nor positions, stops at
// the first error of a value, and its messages speak of Go types.
package config
