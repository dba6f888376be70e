package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent"
	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
)

// keptIdentity is what Consul's HTTP API has said of a proxy that was named by
// flags. It is kept beside the configuration, which would be of no use after a
// restart without Consul if nobody knew whose it is. It holds no secret.
type keptIdentity struct {
	Proxy catalog.Proxy
	GRPC  catalog.GRPC
}

// identityFile is where it is kept; "" if nothing is. What was asked for is part of
// the name.
func identityFile(c *cli.Context, consul catalog.Config) (string, error) {
	dir := c.String("state-dir")
	if dir == "" {
		return "", nil
	}
	if err := (xds.State{Dir: dir}).Open(); err != nil {
		return "", err
	}
	asked := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q", c.String("sidecar-for"), c.String("proxy-id"), c.String("gateway"), c.String("service"),
		consul.Address, consul.GRPCAddress, consul.Datacenter, consul.Namespace))
	return filepath.Join(dir, "proxy-"+hex.EncodeToString(asked[:8])+".json"), nil
}

// askConsul finds out who we are and where xDS is; if the agent cannot be reached,
// it is as it was when it last could.
func askConsul(ctx context.Context, ask func() (*catalog.Proxy, error), address func() (catalog.GRPC, error),
	consul catalog.Config, file string, log *slog.Logger,
) (ads.Config, error) {
	found, err := ask()
	var grpc catalog.GRPC
	if err == nil {
		grpc, err = address()
	}
	if err != nil {
		kept, ok := readIdentity(file)
		if !ok || !catalog.Heals(err) {
			return ads.Config{}, err
		}
		log.Warn("Consul does not say who this proxy is: it is taken to be who it was", "proxy", kept.Proxy.ID, "err", err)
		return agent.ADSAt(ctx, kept.GRPC, consul, kept.Proxy)
	}
	config, err := agent.ADSAt(ctx, grpc, consul, *found)
	if err == nil && file != "" {
		if err := writeIdentity(file, keptIdentity{*found, grpc}); err != nil {
			log.Warn("who this proxy is could not be kept", "file", file, "err", err)
		}
	}
	return config, err
}

func readIdentity(file string) (keptIdentity, bool) {
	var kept keptIdentity
	if file == "" {
		return kept, false
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	return kept, err == nil && kept.Proxy.ID != "" && kept.GRPC.Address != ""
}

func writeIdentity(file string, kept keptIdentity) error {
	text, err := json.Marshal(&kept)
	if err != nil {
		return err
	}
	// Of a name of its own: two of the same proxy may be at it, of which one goes.
	dir, begins := filepath.Dir(file), filepath.Base(file)+".new-"
	removeOld(dir, begins)
	fresh, err := os.CreateTemp(dir, begins+"*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = fresh.Write(text)
	if err = errors.Join(err, fresh.Sync(), fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}
	return nil
}

// oldFile is how old a file must be that nobody is still at.
const oldFile = time.Minute

// removeOld removes what processes that were killed have left.
func removeOld(dir, begins string) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return // which writing tells
	}
	for _, entry := range all {
		if info, err := entry.Info(); err == nil && strings.HasPrefix(entry.Name(), begins) && time.Since(info.ModTime()) > oldFile {
			os.Remove(filepath.Join(dir, entry.Name())) // or the next one does
		}
	}
}
