package resource

import (
	"cmp"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// localReply reads how answers of our own look; nil is as they are.
func (d *decoder) localReply(msg *hcmv3.LocalReplyConfig) (*mesh.LocalReply, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no change
	}
	r := &mesh.LocalReply{}
	var err error
	if r.Body, err = d.replyBody(msg.GetBodyFormat()); err != nil {
		return nil, fmt.Errorf("local_reply_config: body_format: %w", err)
	}
	for _, m := range msg.GetMappers() {
		mapper, err := d.replyMapper(m)
		if err != nil {
			return nil, fmt.Errorf("local_reply_config: %w", err)
		}
		r.Mappers = append(r.Mappers, mapper)
	}
	return r, nil
}

func (d *decoder) replyMapper(msg *hcmv3.ResponseMapper) (m mesh.ReplyMapper, err error) {
	if err = d.only(msg, "filter status_code body body_format_override headers_to_add", ""); err != nil {
		return m, err
	}
	if msg.GetFilter() == nil {
		return m, errors.New("mapper without a filter")
	}
	if m.Filter, err = d.logFilter(msg.GetFilter(), 0); err != nil {
		return m, err
	}
	if code := msg.GetStatusCode(); code != nil {
		if m.Status = int(code.GetValue()); m.Status < 200 || m.Status > 599 {
			return m, fmt.Errorf("status_code %d", m.Status)
		}
	}
	if body := msg.GetBody(); body != nil {
		m.HasText = true
		if m.Text, err = d.text(body); err != nil {
			return m, fmt.Errorf("body: %w", err)
		}
	}
	if m.Body, err = d.replyBody(msg.GetBodyFormatOverride()); err != nil {
		return m, fmt.Errorf("body_format_override: %w", err)
	}
	m.Set, err = headerValues(msg.GetHeadersToAdd())
	return m, err
}

func (d *decoder) replyBody(msg *corev3.SubstitutionFormatString) (*mesh.ReplyBody, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no format
	}
	log := &mesh.AccessLog{} // whose format is the same
	if err := d.logFormat(msg, log); err != nil {
		return nil, err
	}
	otherwise := "text/plain"
	if log.JSON != nil {
		otherwise = "application/json"
	}
	return &mesh.ReplyBody{
		Text: log.Text, JSON: log.JSON, OmitEmpty: log.OmitEmpty, Type: cmp.Or(msg.GetContentType(), otherwise),
	}, nil
}
