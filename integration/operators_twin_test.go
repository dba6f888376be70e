package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/integration/harness"
)

// oddOperators are command operators at the edge of what is taken.
const oddOperators = `%UPSTREAM_DETECTED_CLOSE_TYPE% %DOWNSTREAM_LOCAL_CLOSE_REASON% %DOWNSTREAM_DIRECT_LOCAL_PORT% %DOWNSTREAM_DIRECT_REMOTE_PORT% %UPSTREAM_PEER_EMAIL_SAN%
	%UPSTREAM_PEER_SERIAL% %UPSTREAM_PEER_FINGERPRINT_256% %UPSTREAM_LOCAL_SUBJECT% %UPSTREAM_LOCAL_EMAIL_SAN% %UPSTREAM_PEER_OTHERNAME_SAN% %DOWNSTREAM_LOCAL_ISSUER%
	%DOWNSTREAM_LOCAL_SERIAL% %SUBJECT% %DOWNSTREAM_LOCAL_DNS_SAN:3% %COALESCE({"operators":["PROTOCOL"]})% %CEL(request.path)% %CEL(request.path):3% %CEL()% %TYPED_CEL(request.path)%
	%SPAN_ID% %QUERY_PARAMS% %QUERY_PARAM()% %REQUEST_HEADER(a)% %METADATA(CLUSTER:a:b):5% %METADATA(CLUSTER)% %METADATA(CLUSTER:)% %METADATA(LISTENER:a:b)%
	%METADATA(LISTENER_FILTER_CHAIN:a:b)% %METADATA(ROUTE:a:b)% %METADATA(VIRTUAL_HOST)% %METADATA(UPSTREAM_HOST:a:b)% %METADATA(DYNAMIC)% %METADATA()% %METADATA(NOPE:a)%
	%DYNAMIC_METADATA(a:b):5% %DYNAMIC_METADATA(a)% %DYNAMIC_METADATA(:a)% %DYNAMIC_METADATA()% %CLUSTER_METADATA(a:b):5% %CLUSTER_METADATA()% %UPSTREAM_METADATA()%
	%FILTER_STATE(x)% %FILTER_STATE(x:)% %FILTER_STATE(x::y)% %FILTER_STATE(x:FIELD)% %FILTER_STATE(x:FIELD:y)% %FILTER_STATE(x:PLAIN:y)% %FILTER_STATE(x:PLAIN):5%
	%FILTER_STATE(:PLAIN)% %FILTER_STATE()% %UPSTREAM_FILTER_STATE(x:PLAIN)% %ENVIRONMENT(X):3% %ENVIRONMENT()% %PATH:10% %PATH(NQ):10% %PATH()% %TRAILER(x):3% %TRAILER()%
	%TRAILER(a?b)% %RESP(a?b)% %REQ(a?)% %REQ(?a)% %REQ(X):0% %REQ(:PATH) %RESP(% %ROUNDTRIP_DURATION% %DOWNSTREAM_HANDSHAKE_DURATION% %TLS_JA4_FINGERPRINT%
	%RESPONSE_CODE_DETAILS(X)% %UPSTREAM_HOST:3% %DOWNSTREAM_PEER_CERT_V_START(%n)% %DOWNSTREAM_PEER_CERT_V_END():3% %START_TIME(%En)% %START_TIME(%On)% %START_TIME(%1n)%
	%START_TIME(%-n)% %START_TIME(%EOn)% %START_TIME()% %EMIT_TIME_LOCAL(%s)% %UPSTREAM_HOSTS_ATTEMPTED% %REQUESTED_SERVER_NAME(SNI_FIRST)% %UPSTREAM_BYTES_RETRANSMITTED%
	%TRACE_ID(X)% %DURATION(x)% %LOCAL_REPLY_BODY:3% %UNIQUE_ID:3% %COMMON_DURATION(A)% %COMMON_DURATION(A:B)% %COMMON_DURATION(a:b:ms:x)% %COMMON_DURATION(a:b:s)%
	%COMMON_DURATION(a::ms)% %COMMON_DURATION(::ms)% %GRPC_STATUS()% %GRPC_STATUS(X)% %GRPC_STATUS_NUMBER(x)% %HOSTNAME:3% %HOSTNAME()% %CONNECTION_ID()% %ROUTE_NAME(x)%
	%REQ_WITHOUT_QUERY(x)% %UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED% %DOWNSTREAM_PEER_IP_SAN% %PATH(X)% %PATH(WQ:X)% %100% %req(a)%`

// TestOperatorsAsEnvoy has Envoy say of texts with command operators whether they are right.
func TestOperatorsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	envoy, err := env.Envoy()
	must(t, err)
	file := filepath.Join(env.Dir(), "one.json")
	for text := range strings.FieldsSeq(oddOperators) {
		hcm := fmt.Appendf(nil, `{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"h","access_log":[%s],"http_filters":[{"name":"router","typed_config":{"@type":%q}}],"route_config":{"name":"r"}}}`,
			hcmType, fileLog("/dev/null", "", textFormat(text)), routerAny)
		must(t, os.WriteFile(file, asJSON(map[string]any{"static_resources": map[string]any{
			"listeners": []json.RawMessage{boundListener("l", 1, nil, []json.RawMessage{hcm}, "{}")},
		}}), 0o600))
		said, theirs := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", file, "-l", "critical", "--disable-hot-restart").CombinedOutput()
		if _, ours := format.Compile(text); (ours == nil) != (theirs == nil) {
			t.Errorf("%s: we say %v, Envoy %v: %s", text, ours, theirs, said)
		}
	}
}
