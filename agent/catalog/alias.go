package catalog

import "github.com/hashicorp/consul/api"

// Client is a client of Consul's HTTP API, named here so that who only passes
// one on need not import the library.
type Client = api.Client
