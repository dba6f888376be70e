package wire

import "slices"

// Service answers one request. It is a router, a policy, a cluster or a
// codec's client side.
//
// Serve returns when the head of the response is there; bodies stream on
// afterwards, in both directions at once. It returns exactly one of response
// and error. An error is turned into a response in one place only, [Reply];
// a Service that wants to choose status and text returns a [Fault].
//
// What must happen once the exchange is over (a counter, a breaker, a log
// line) is registered with [Exchange.OnEnd] and not done after Serve.
type Service interface {
	Serve(x *Exchange, req *Request) (*Response, error)
}

// ServiceFunc is a function as a [Service].
type ServiceFunc func(x *Exchange, req *Request) (*Response, error)

// Serve calls f.
func (f ServiceFunc) Serve(x *Exchange, req *Request) (*Response, error) { return f(x, req) }

// Layer wraps a service in one more step. It holds no state of an exchange.
type Layer func(next Service) Service

// Stack wraps service in layers; the first layer is the outermost, so a stack
// reads in the order in which a request meets it.
func Stack(service Service, layers ...Layer) Service {
	for _, layer := range slices.Backward(layers) {
		if layer != nil {
			service = layer(service)
		}
	}
	return service
}
