// Package harness starts and stops real neighbours for tests and for the demo: Consul and Nomad agents, Envoy, and our
// own binaries as processes, as a user would. It promises that nothing stays behind, whatever ends the test.
//
//	Env ── folder with logs, block of ports, stack of cleanups
//	 ├── guardian   a shell in a session of its own: sweeps when the pipe from this process breaks
//	 ├── Process    one process group each, its output in logs/NAME.log
//	 │    └── Consul, Nomad, Serai, ... are a Process and a client
//	 └── Namespace  init of PID, network and mount namespaces (Linux, root): Nomad lives in there
//
// What ends a process, from the friendliest on:
//
//   - Process.Stop and Env.Close: SIGTERM, a while, then SIGKILL to the group;
//   - the death of this process, on Linux: the parent death signal. The kernel ties it to the thread that forked and
//     not to the process, so that each child has a goroutine locked to its thread for as long as the child lives;
//   - the guardian, which holds the other end of a pipe: when this process is gone it kills the groups that are left
//     (a grandchild gets no parent death signal) and removes Nomad's cgroups;
//   - a Namespace's init: when it dies the kernel kills all within it, and the network and the mounts go with it.
//
// # Alternatives not taken
//
//   - A cgroup per Env with cgroup.kill: needs cgroup v2 and a delegation; Nomad moves its tasks elsewhere.
//   - A named network namespace (ip netns): it must be deleted by somebody, and entering it hides /sys/fs/cgroup, so
//     that Nomad finds no exec driver. An unnamed one goes with its last process.
//   - Guarding by a re-exec of the test binary: every main that imports this package would have to know of it.
package harness
