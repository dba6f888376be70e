package main

import (
	"cmp"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/jobs"
)

// nomadFlags are those of the nomad command line by which it finds its agent,
// with Nomad's own environment variables.
func nomadFlags() []cli.Flag {
	flag := func(name, env, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage + " [$" + env + "]", Category: "Nomad"}
	}
	return []cli.Flag{
		flag("address", "NOMAD_ADDR", "`address` of the Nomad agent (default: "+jobs.DefaultAddress+")"),
		flag("region", "NOMAD_REGION", "`region` of a job that names none (default: the agent's)"),
		flag("namespace", "NOMAD_NAMESPACE", "`namespace` of a job that names none (default: default)"),
		flag("token", "NOMAD_TOKEN", "ACL `token`"),
		flag("ca-cert", "NOMAD_CACERT", "PEM `file` that verifies the agent's certificate"),
		flag("ca-path", "NOMAD_CAPATH", "`folder` with such files"),
		flag("client-cert", "NOMAD_CLIENT_CERT", "PEM `file` with our certificate"),
		flag("client-key", "NOMAD_CLIENT_KEY", "PEM `file` with its key"),
		flag("tls-server-name", "NOMAD_TLS_SERVER_NAME", "`name` in the agent's certificate"),
		&cli.BoolFlag{Name: "tls-skip-verify", Usage: "believe any certificate [$NOMAD_SKIP_VERIFY]", Category: "Nomad"},
	}
}

// nomadClient makes a client from flags, and from the environment under them.
func nomadClient(c *cli.Context) (*jobs.Client, error) {
	var config jobs.Config
	for _, one := range []struct {
		field     *string
		flag, env string
	}{
		{&config.Address, "address", "NOMAD_ADDR"},
		{&config.Region, "region", "NOMAD_REGION"},
		{&config.Namespace, "namespace", "NOMAD_NAMESPACE"},
		{&config.Token, "token", "NOMAD_TOKEN"},
		{&config.CACert, "ca-cert", "NOMAD_CACERT"},
		{&config.CAPath, "ca-path", "NOMAD_CAPATH"},
		{&config.ClientCert, "client-cert", "NOMAD_CLIENT_CERT"},
		{&config.ClientKey, "client-key", "NOMAD_CLIENT_KEY"},
		{&config.TLSServerName, "tls-server-name", "NOMAD_TLS_SERVER_NAME"},
	} {
		*one.field = cmp.Or(c.String(one.flag), os.Getenv(one.env))
	}
	config.TLSSkipVerify = c.Bool("tls-skip-verify")
	if !c.IsSet("tls-skip-verify") {
		config.TLSSkipVerify, _ = strconv.ParseBool(os.Getenv("NOMAD_SKIP_VERIFY")) // what is no bool is no yes
	}
	return jobs.NewClient(config)
}

// loadJob opens the job that the arguments name, and has Nomad parse it. The
// caller closes the client.
func loadJob(c *cli.Context) (*jobs.Client, *jobs.Job, error) {
	file, values, err := openJob(c)
	if err != nil {
		return nil, nil, err
	}
	client, err := nomadClient(c)
	if err != nil {
		return nil, nil, &usageError{command: "job " + c.Command.Name, err: err}
	}
	job, err := client.Load(c.Context, file, values)
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return client, job, nil
}
