package machine

// request is one line of JSON on the machine's socket; a reply follows.
type request struct {
	// Op is "start", "stop", "wait" or "list".
	Op string
	// Process is what start starts; of the others only its name counts.
	Process Process
	// Signal is what stop sends.
	Signal int
}

// reply is one line of JSON.
type reply struct {
	Error     string `json:",omitempty"`
	Processes []Status
}

// Process is a program to run in a machine.
type Process struct {
	// Name is unique in the machine; what has ended makes room for another of its name.
	Name string
	// Args are the program, an absolute path, and its arguments.
	Args []string
	// Env is the whole environment.
	Env []string
	// Log is the file that its output is added to, a path in the machine.
	Log string
	// Machine puts it in new namespaces as a process 1; Args then run [Main], and the process
	// has started when the machine is ready.
	Machine bool
}

// Status is what a machine knows of a process.
type Status struct {
	Name string
	// Running is false when it has ended, as End says: "exit status 1", "signal: killed".
	Running bool
	End     string `json:",omitempty"`
}
