package mesh

// Lambda makes invocations of a function of AWS Lambda of the requests that go to
// a cluster of its gateway (xDS: filters.http.aws_lambda.v3).
type Lambda struct {
	// ARN is the function's, Region what it says of it.
	ARN, Region string
	// Passthrough sends the body as it is, and gives the function's answer as it is;
	// else requests and responses are told in JSON.
	Passthrough bool
	// Async does not wait for the function.
	Async bool
	// HostRewrite is the authority of the invocation; "" leaves it.
	HostRewrite string
	// AccessKey, SecretKey and Session are the credentials; empty means those of the
	// environment.
	AccessKey, SecretKey, Session string
}
