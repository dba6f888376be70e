package mtls

import (
	"crypto/tls"
	"fmt"
)

// curves sets the key exchanges that are taken, by Envoy's names. In which order they
// are preferred is up to crypto/tls.
func curves(config *tls.Config, names []string) error {
	for _, name := range names {
		switch name {
		case "X25519":
			config.CurvePreferences = append(config.CurvePreferences, tls.X25519)
		case "P-256":
			config.CurvePreferences = append(config.CurvePreferences, tls.CurveP256)
		case "P-384":
			config.CurvePreferences = append(config.CurvePreferences, tls.CurveP384)
		case "P-521":
			config.CurvePreferences = append(config.CurvePreferences, tls.CurveP521)
		case "X25519MLKEM768":
			config.CurvePreferences = append(config.CurvePreferences, tls.X25519MLKEM768)
		}
	}
	if len(names) > 0 && len(config.CurvePreferences) == 0 {
		return fmt.Errorf("tls: none of the curves %v is supported", names)
	}
	return nil
}
