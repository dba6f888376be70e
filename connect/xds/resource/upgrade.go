package resource

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// upgrades reads the protocols that a chain may switch to.
func (d *decoder) upgrades(configs []*hcmv3.HttpConnectionManager_UpgradeConfig) ([]string, error) {
	var out []string
	for _, u := range configs {
		if err := d.only(u, "upgrade_type enabled", ""); err != nil {
			return nil, err
		}
		if u.GetEnabled() == nil || u.GetEnabled().GetValue() {
			out = append(out, strings.ToLower(u.GetUpgradeType()))
		}
	}
	return out, nil
}

// ruleUpgrades reads what a route says of protocols, and whether CONNECT ends here.
func (d *decoder) ruleUpgrades(configs []*routev3.RouteAction_UpgradeConfig, r *mesh.Rule) error {
	for _, u := range configs {
		if err := d.only(u, "upgrade_type enabled connect_config", ""); err != nil {
			return err
		}
		protocol := strings.ToLower(u.GetUpgradeType())
		if r.Upgrades == nil {
			r.Upgrades = map[string]bool{}
		}
		r.Upgrades[protocol] = u.GetEnabled() == nil || u.GetEnabled().GetValue()
		if u.GetConnectConfig() == nil {
			continue
		}
		if protocol != upgradeConnect {
			return fmt.Errorf("connect_config of upgrade %q", protocol)
		}
		if err := d.only(u.GetConnectConfig(), "", ""); err != nil {
			return err
		}
		r.Connect = true
	}
	return nil
}
