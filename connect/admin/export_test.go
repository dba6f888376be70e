package admin

import "net/http"

// Handler is the interface without a socket.
func Handler(o Options) http.Handler { return newHandler(&o) }

// Abandon closes the sockets and leaves their files, as a killed process does.
func (s *Server) Abandon() {
	for _, one := range s.serving {
		if unix, ok := one.listener.(interface{ SetUnlinkOnClose(unlink bool) }); ok {
			unix.SetUnlinkOnClose(false)
		}
		one.listener.Close()
	}
}
