package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// resumption sets how the sessions of clients go on.
func resumption(config *tls.Config, r *mesh.Resumption) {
	config.SessionTicketsDisabled = r.Off
	if len(r.Keys) > 0 {
		keys := make([][32]byte, len(r.Keys))
		for i, key := range r.Keys {
			keys[i] = sha256.Sum256([]byte(key))
		}
		config.SetSessionTicketKeys(keys)
	}
	if r.Timeout > 0 && !r.Off {
		expiring(config, r.Timeout)
	}
}

// begun stands in a ticket before the time of its session.
const begun = "begun:"

// expiring lets sessions be resumed only within timeout.
func expiring(config *tls.Config, timeout time.Duration) {
	config.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		if _, known := beginning(session); !known {
			session.Extra = append(session.Extra, binary.BigEndian.AppendUint64([]byte(begun), uint64(time.Now().Unix())))
		}
		return config.EncryptTicket(state, session)
	}
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := config.DecryptTicket(ticket, state)
		if err != nil || session == nil {
			return nil, err
		}
		if since, known := beginning(session); !known || time.Since(since) > timeout {
			return nil, nil //nolint:nilnil // a whole handshake then
		}
		return session, nil
	}
}

// beginning is when a session began.
func beginning(session *tls.SessionState) (time.Time, bool) {
	for _, extra := range session.Extra {
		if rest, ok := bytes.CutPrefix(extra, []byte(begun)); ok && len(rest) == 8 {
			return time.Unix(int64(binary.BigEndian.Uint64(rest)), 0), true
		}
	}
	return time.Time{}, false
}
