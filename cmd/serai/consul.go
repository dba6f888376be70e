package main

import (
	"cmp"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/catalog"
)

// consulFlags are the HTTP flags of the consul command line. Their environment
// variables are Consul's, and count where neither flag nor file says anything.
func consulFlags() []cli.Flag {
	flag := func(name, env, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage + " [$" + env + "]", Category: "Consul"}
	}
	return []cli.Flag{
		flag("http-addr", "CONSUL_HTTP_ADDR", "`address` of the Consul agent's HTTP API (default: 127.0.0.1:8500)"),
		flag("grpc-addr", "CONSUL_GRPC_ADDR", "`address` of its gRPC port, for xDS: host:port, https://host:port or unix:///path (default: asked from the agent)"),
		flag("token", "CONSUL_HTTP_TOKEN", "ACL `token`"),
		flag("token-file", "CONSUL_HTTP_TOKEN_FILE", "`file` with the ACL token"),
		flag("ca-file", "CONSUL_CACERT", "PEM `file` that verifies the HTTP API's certificate"),
		flag("grpc-ca-file", "CONSUL_GRPC_CACERT", "PEM `file` that verifies the gRPC port's certificate (default: -ca-file)"),
		flag("client-cert", "CONSUL_CLIENT_CERT", "PEM `file` with our certificate"),
		flag("client-key", "CONSUL_CLIENT_KEY", "PEM `file` with its key"),
		flag("tls-server-name", "CONSUL_TLS_SERVER_NAME", "`name` in the agent's certificate"),
		flag("datacenter", "CONSUL_DATACENTER", "`datacenter` of queries"),
		flag("namespace", "CONSUL_NAMESPACE", "`namespace` (Consul Enterprise)"),
	}
}

// consulConfig puts flags over what a file says, and the environment under it.
func consulConfig(c *cli.Context, file *catalog.Config) catalog.Config {
	var config catalog.Config
	if file != nil {
		config = *file
	}
	if c.IsSet("token") || c.IsSet("token-file") {
		config.Token, config.TokenFile = c.String("token"), c.String("token-file")
	}
	if config.Token == "" && config.TokenFile == "" {
		config.Token = os.Getenv("CONSUL_HTTP_TOKEN")
	}
	if config.Token == "" && config.TokenFile == "" {
		config.TokenFile = os.Getenv("CONSUL_HTTP_TOKEN_FILE")
	}
	ssl := os.Getenv("CONSUL_HTTP_SSL")
	config.SSL = config.SSL || ssl == "true" || ssl == "1"
	for _, one := range []struct {
		field     *string
		flag, env string
	}{
		{&config.Address, "http-addr", "CONSUL_HTTP_ADDR"},
		{&config.GRPCAddress, "grpc-addr", "CONSUL_GRPC_ADDR"},
		{&config.CAFile, "ca-file", "CONSUL_CACERT"},
		{&config.GRPCCAFile, "grpc-ca-file", "CONSUL_GRPC_CACERT"},
		{&config.CertFile, "client-cert", "CONSUL_CLIENT_CERT"},
		{&config.KeyFile, "client-key", "CONSUL_CLIENT_KEY"},
		{&config.ServerName, "tls-server-name", "CONSUL_TLS_SERVER_NAME"},
		{&config.Datacenter, "datacenter", "CONSUL_DATACENTER"},
		{&config.Namespace, "namespace", "CONSUL_NAMESPACE"},
	} {
		*one.field = cmp.Or(c.String(one.flag), *one.field, os.Getenv(one.env))
	}
	return config
}
