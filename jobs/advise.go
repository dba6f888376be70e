package jobs

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	nomad "github.com/hashicorp/nomad/api"
)

// Advice is one thing that commonly goes wrong, and what to do about it.
type Advice struct {
	// Where in the job: group "web", task "app".
	Where string
	// Text says what happens, Remedy what to write instead.
	Text, Remedy string
}

// String is one line.
func (a Advice) String() string { return a.Where + ": " + a.Text + ": " + a.Remedy }

// How long our own roles take to stop if nothing else is said: the longest
// drain_timeout there is by default.
const (
	connectDrain = 4500 * time.Millisecond
	edgeDrain    = 4 * time.Second
	killTimeout  = 5 * time.Second // Nomad's
)

// advise looks at a job that Nomad may well take. nodes is nil if they are not
// known.
func advise(job *nomad.Job, known *nodes) []Advice {
	var all []Advice
	for _, group := range job.TaskGroups {
		a := &adviser{job: job, group: group, nodes: known}
		a.look()
		all = append(all, a.found...)
	}
	return all
}

// adviser looks at one group.
type adviser struct {
	job   *nomad.Job
	group *nomad.TaskGroup
	nodes *nodes
	found []Advice
}

func (a *adviser) add(where, text, remedy string) {
	at := fmt.Sprintf("group %q", *a.group.Name)
	if where != "" {
		at += ", " + where
	}
	a.found = append(a.found, Advice{at, text, remedy})
}

func (a *adviser) look() {
	meshed := false
	for _, service := range a.group.Services {
		if service.Connect == nil || service.Connect.SidecarService == nil {
			continue
		}
		meshed = true
		where := fmt.Sprintf("service %q", service.Name)
		a.sidecar(where, service.Connect.SidecarTask)
		a.port(where, service)
		for _, check := range service.Checks {
			a.check(where, service, check)
		}
	}
	if meshed {
		a.meshed()
	}
	for _, task := range a.group.Tasks {
		a.driver(fmt.Sprintf("task %q", task.Name), task.Driver)
		a.killed(fmt.Sprintf("task %q", task.Name), task.Config, task.KillTimeout)
	}
}

// meshed looks at a group that has a sidecar.
func (a *adviser) meshed() {
	if mode := a.network().Mode; mode != "bridge" {
		a.add("", fmt.Sprintf("a sidecar needs a network of its own, and network mode is %q", mode), `write network { mode = "bridge" }`)
	}
	if a.group.ShutdownDelay == nil || *a.group.ShutdownDelay == 0 {
		a.add("", "shutdown_delay is 0: at a stop the service ends at once, while its callers still come, and their requests fail",
			`write shutdown_delay = "3s" into the group`)
	}
	kind := nomad.JobTypeService
	if a.job.Type != nil {
		kind = *a.job.Type
	}
	if kind == nomad.JobTypeService && a.group.Count != nil && *a.group.Count == 1 {
		a.add("", "count is 1: while it restarts nobody serves", "write count = 2, or live with it")
	}
}

func (a *adviser) network() *nomad.NetworkResource {
	if len(a.group.Networks) == 0 {
		return &nomad.NetworkResource{Mode: "host"}
	}
	return a.group.Networks[0]
}

// sidecar looks at how a sidecar is started.
func (a *adviser) sidecar(where string, task *nomad.SidecarTask) {
	driver := "docker"
	if task != nil && task.Driver != "" {
		driver = task.Driver
	}
	where += ", sidecar"
	switch {
	case driver == "docker" && a.nodes != nil && a.nodes.ready > 0 && a.nodes.drivers[driver] == 0:
		a.add(where, "without sidecar_task it is started by docker, which no node has",
			`write sidecar_task { driver = "exec" ... } as "serai job render service" has it`)
	case driver == "docker" && (task == nil || task.Config["image"] == nil) && a.nodes != nil && a.nodes.image[""]:
		a.add(where, "there are nodes that would start Envoy, since they do not name another image",
			`set connect.sidecar_image in the meta of the clients to an image of serai, or write sidecar_task`)
	}
	if task == nil {
		return
	}
	if driver != "docker" {
		a.driver(where, driver)
	}
	if driver == "raw_exec" && role(task.Config) == "" {
		a.add(where, "under raw_exec the bootstrap's path alloc/tmp/consul_grpc.sock leads nowhere, since the task is in no chroot",
			"take driver exec, or serai as the command, which looks in NOMAD_ALLOC_DIR as well")
	}
	if address := task.Env["CONSUL_GRPC_ADDR"]; driver == "raw_exec" && strings.HasPrefix(address, "unix://alloc/") {
		a.add(where, "CONSUL_GRPC_ADDR is a path within the chroot of exec, and raw_exec has none", "leave it out, or begin it with ${NOMAD_ALLOC_DIR}")
	}
	a.killed(where, task.Config, task.KillTimeout)
}

// driver looks whether any node can start a task.
func (a *adviser) driver(where, name string) {
	if a.nodes == nil || a.nodes.ready == 0 || a.nodes.drivers[name] > 0 || strings.Contains(name, "${") {
		return
	}
	remedy := "install and enable it on the clients, or take another driver"
	if name == "raw_exec" {
		remedy = `allow it in the clients' configuration: plugin "raw_exec" { config { enabled = true } }, or take exec`
	}
	a.add(where, fmt.Sprintf("no node has the driver %q", name), remedy)
}

// killed looks whether one of our roles has the time to drain.
func (a *adviser) killed(where string, config map[string]any, timeout *time.Duration) {
	drain := edgeDrain
	flag := ""
	switch role(config) {
	case "connect":
		drain, flag = connectDrain, "-drain-timeout"
	case "edge", "agent":
	default:
		return
	}
	if given, ok := flagValue(config, flag); ok {
		drain = given
	}
	killed := killTimeout
	if timeout != nil && *timeout > 0 {
		killed = *timeout
	}
	if killed <= drain {
		a.add(where, fmt.Sprintf("kill_timeout is %v and draining takes up to %v: requests under way would be cut off", killed, drain),
			fmt.Sprintf("write kill_timeout = %q", (drain+time.Second).Round(time.Second).String()))
	}
}

// role is which of our commands a task runs; "" if it runs something else.
func role(config map[string]any) string {
	command, _ := config["command"].(string)
	if path.Base(command) != "serai" {
		return ""
	}
	if args := arguments(config); len(args) > 0 {
		return args[0]
	}
	return ""
}

func arguments(config map[string]any) []string {
	list, _ := config["args"].([]any)
	args := make([]string, 0, len(list))
	for _, one := range list {
		if text, ok := one.(string); ok {
			args = append(args, text)
		}
	}
	return args
}

// flagValue finds a duration among the arguments: -flag 5s, --flag=5s.
func flagValue(config map[string]any, flag string) (time.Duration, bool) {
	args := arguments(config)
	for i, arg := range args {
		name, value, joined := strings.Cut("-"+strings.TrimLeft(arg, "-"), "=")
		if flag == "" || name != flag {
			continue
		}
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		d, err := time.ParseDuration(value)
		return d, err == nil
	}
	return 0, false
}

// port looks whether the service can be reached around its sidecar.
func (a *adviser) port(where string, service *nomad.Service) {
	ports := slices.Concat(a.network().DynamicPorts, a.network().ReservedPorts)
	for _, port := range ports {
		if port.Label == service.PortLabel && a.network().Mode == "bridge" {
			a.add(where, fmt.Sprintf("port %q is open at the host: who calls it there passes by the sidecar and its intentions", port.Label),
				"write the service's own port as a number, such as port = \"8080\", and no port block, if only the mesh shall come in")
		}
	}
}

// check looks whether Consul can ask what it is to ask.
func (a *adviser) check(where string, service *nomad.Service, check nomad.ServiceCheck) {
	if check.Type != "http" && check.Type != "tcp" && check.Type != "grpc" || check.Expose || a.network().Mode != "bridge" {
		return
	}
	port := check.PortLabel
	if port == "" {
		port = service.PortLabel
	}
	if port == "" || strings.Trim(port, "0123456789") != "" || check.AddressMode == "alloc" {
		return
	}
	remedy := "write expose = true into the check"
	if check.Type == "tcp" {
		remedy = `leave it out, since the sidecar's own check is there, or write address_mode = "alloc" and have the service listen on 0.0.0.0`
	}
	a.add(where, fmt.Sprintf("its %s check asks port %s of the host, which is another one than that in the bridge: it would stay critical", check.Type, port), remedy)
}
