// Package rules changes headers by rules, in the order in which they are
// written; each sees what those before have made.
package rules
