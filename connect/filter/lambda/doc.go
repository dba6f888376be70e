// Package lambda makes invocations of AWS Lambda of requests (xDS:
// filters.http.aws_lambda.v3), signed by AWS's own signer. It is the wall around
// AWS's SDK, of which only the signer and two sources of credentials are linked.
package lambda
