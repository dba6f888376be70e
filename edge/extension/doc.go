// Package extension has the layers by which plugins take part in an exchange:
// they authenticate callers, and change requests and the heads of responses.
//
//	request ─▶ body, if the plugin is given bodies ─▶ plugin ─┬─ identity or change ─▶ applied, next layer
//	                                                          ├─ refusal ─▶ its status
//	                                                          └─ failure ─▶ 503, or next layer (fail mode)
//
// Running the plugins is the business of plugins/host. What a plugin answers is
// data of a stranger even so: a path is normalised again, a consumer must be one
// of the configuration.
package extension
