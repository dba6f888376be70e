// Package match compiles the matchers of the mesh's nouns (strings, header
// fields, query parameters, RE2 patterns) to values that decide without
// allocating. Routes and intentions share it, so that both read a request in
// the same way.
//
// It follows what Envoy does where the protocol leaves a choice; each choice
// was measured against Envoy 1.36:
//
//   - A regular expression matches in full, never a part of the string.
//   - Case is ignored for ASCII letters only, and not by regular expressions.
//   - A header field that occurs more than once is one value, joined by ",".
//   - A missing header field matches no value, inverted or not; only "is it
//     present" can be inverted to "it is missing".
//   - "host" is ":authority"; ":path" has the query.
//   - Query parameters are compared as they stand, not percent-decoded; the
//     first of a name counts.
package match
