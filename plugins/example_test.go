package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/serai-net/serai/plugins"
)

// teamToken lets callers in by one token for each team.
type teamToken struct {
	teams map[string]string // by token
}

// newTeamToken reads settings such as { tokens = { web = "s3cret" } }.
func newTeamToken(settings map[string]any, log *slog.Logger) (any, error) {
	tokens, ok := settings["tokens"].(map[string]any)
	if !ok {
		return nil, errors.New(`tokens is missing; write tokens = { "consumer" = "token" }`)
	}
	t := &teamToken{teams: map[string]string{}}
	for team, token := range tokens {
		text, ok := token.(string)
		if !ok || text == "" {
			return nil, errors.New("tokens must be strings that are not empty")
		}
		t.teams[text] = team
	}
	log.Info("ready", "teams", len(t.teams))
	return t, nil
}

// Authenticate implements plugins.Authenticator.
func (t *teamToken) Authenticate(_ context.Context, r *plugins.Request) (*plugins.Identity, error) {
	team, ok := t.teams[r.Get("x-team-token")]
	if !ok {
		return nil, &plugins.Refusal{
			Status: http.StatusUnauthorized, Text: "send your team's token in x-team-token",
			Header: []plugins.Field{{Name: "www-authenticate", Value: "TeamToken"}},
		}
	}
	return &plugins.Identity{Consumer: team, Remove: []string{"x-team-token"}}, nil
}

// A whole plugin: build it as a program, and name it with its checksum in the
// configuration of the edge.
func Example() {
	plugins.Serve(plugins.Plugin{Name: "team-token", Version: "1.0.0", New: newTeamToken})
}

// The same, tried without Serai.
func ExampleAuthenticator() {
	made, err := newTeamToken(map[string]any{"tokens": map[string]any{"web": "s3cret"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	authenticator, ok := made.(plugins.Authenticator)
	if !ok {
		panic("it does not authenticate")
	}
	for _, token := range []string{"s3cret", "guess"} {
		identity, err := authenticator.Authenticate(context.Background(), &plugins.Request{
			Method: "GET", Path: "/", Header: []plugins.Field{{Name: "x-team-token", Value: token}},
		})
		if err != nil {
			fmt.Fprintln(os.Stdout, err)
			continue
		}
		fmt.Fprintln(os.Stdout, identity.Consumer)
	}
	// Output:
	// web
	// refused with 401: send your team's token in x-team-token
}
