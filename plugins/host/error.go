package host

import "errors"

// Why a call did not get an answer. A caller that goes away gets the error of its
// own context, and a plugin that refuses a request a [plugins.Refusal]; neither
// counts as a failure of the plugin.
var (
	// ErrUnavailable: the process is not there now, or ended during the call.
	ErrUnavailable = errors.New("plugin is not running")
	// ErrTimeout: it did not answer within the timeout of its Config.
	ErrTimeout = errors.New("plugin did not answer in time")
	// ErrOverload: all places are taken, and too many calls wait for one or this
	// one has waited too long.
	ErrOverload = errors.New("plugin has too many calls")
	// ErrProtocol: the answer breaks the protocol.
	ErrProtocol = errors.New("plugin broke the protocol")
	// ErrFailed: the plugin answered that it failed.
	ErrFailed = errors.New("plugin failed")
)
