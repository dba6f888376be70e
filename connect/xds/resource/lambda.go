package resource

import (
	"fmt"
	"strings"

	lambdav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/aws_lambda/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
)

const lambdaType = "envoy.extensions.filters.http.aws_lambda.v3.Config"

func (d *decoder) lambda(config *anypb.Any) (*mesh.Lambda, error) {
	msg := &lambdav3.Config{}
	if err := unpack(config, msg); err != nil {
		return nil, err
	}
	if err := d.only(msg, "arn payload_passthrough invocation_mode host_rewrite credentials", ""); err != nil {
		return nil, err
	}
	l := &mesh.Lambda{
		ARN: msg.GetArn(), Passthrough: msg.GetPayloadPassthrough(), HostRewrite: msg.GetHostRewrite(),
		Async:     msg.GetInvocationMode() == lambdav3.Config_ASYNCHRONOUS,
		AccessKey: msg.GetCredentials().GetAccessKeyId(), SecretKey: msg.GetCredentials().GetSecretAccessKey(),
		Session: msg.GetCredentials().GetSessionToken(),
	}
	// arn:partition:lambda:region:account:function:name[:version]
	parts := strings.Split(l.ARN, ":")
	if len(parts) < 7 || len(parts) > 8 || parts[0] != "arn" || parts[2] != "lambda" || parts[3] == "" || parts[5] != "function" || parts[6] == "" ||
		strings.ContainsAny(l.ARN, " /?#%\r\n") {
		return nil, fmt.Errorf("%q is not the ARN of a function", l.ARN)
	}
	l.Region = parts[3]
	if (l.AccessKey == "") != (l.SecretKey == "") {
		return nil, fmt.Errorf("credentials are not whole")
	}
	return l, nil
}
