package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Mode is how far the plugin is put in.
type Mode string

// The modes.
const (
	// Chained: the binary is installed and its entry is in the runtime's network configuration.
	Chained Mode = "chained"
	// Binary: the binary is installed, and nothing refers to it: somebody else will, as with Multus.
	Binary Mode = "binary"
	// Disabled: neither is there.
	Disabled Mode = "disabled"
)

// ParseMode returns the mode that s names.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Chained, Binary, Disabled:
		return m, nil
	}
	return "", fmt.Errorf("CNI mode %q is not known; write chained, binary or disabled", s)
}

// State is whether what the mode wants is there.
type State string

// The states.
const (
	Ready State = "Ready"
	// Waiting: others have to do something first that they will do in their own time.
	Waiting State = "Waiting"
	// Unready: somebody has to do something, which the message says.
	Unready State = "Unready"
)

// Reason is why the state is what it is, in a word that fits a condition or a metric.
type Reason string

// The reasons.
const (
	// Installed: Ready, as the mode wants it.
	Installed Reason = "Installed"
	// Uninstalled: Ready, after [Installer.Uninstall].
	Uninstalled Reason = "Uninstalled"
	// NoNetworkConfig: Waiting for the cluster's own CNI to write its configuration.
	NoNetworkConfig Reason = "NoNetworkConfig"
	// NotUnderstood: Unready, the configuration is not one that may be touched.
	NotUnderstood Reason = "NotUnderstood"
	// NotWritable: Unready, a file could not be read or changed.
	NotWritable Reason = "NotWritable"
	// BinaryNotInstalled: Unready, the binary could not be copied.
	BinaryNotInstalled Reason = "BinaryNotInstalled"
	// Contended: Unready, somebody else takes the entry out again and again.
	Contended Reason = "Contended"
)

// Status is the state of the installation. The zero value is that before the first look.
type Status struct {
	State  State
	Reason Reason
	// Message is a sentence for a person.
	Message string
	// File is the path of the configuration that has the entry; "": none has.
	File string
	// Patches counts the times that the entry was put into a file.
	Patches int
}

// Options are the settings of an [Installer].
type Options struct {
	// BinDir and ConfDir are the runtime's folders, as the agent sees them; /opt/cni/bin and /etc/cni/net.d when
	// empty. If they may be replaced as a whole, their parents must be what is mounted.
	BinDir, ConfDir string
	// Plugin is the path of the binary to install.
	Plugin string
	// Mode is Chained when empty.
	Mode Mode
	// Socket is the agent's socket as the plugin sees it, that is, on the node. Empty: the plugin's default.
	Socket string
	// Timeout is how long an ADD waits for the agent. 0: the plugin's default.
	Timeout time.Duration
	// KeepBinary keeps the binary when the plugin is taken out. CRI-O and Multus take a pod down by the configuration
	// that it was started with, so without the binary no pod from before could end. containerd takes
	// the configuration of the day.
	KeepBinary bool
	// OnChange, if not nil, is called with each new status, never twice at once. It must not call Uninstall.
	OnChange func(Status)
	// Logger gets each change; nil: slog.Default().
	Logger *slog.Logger
}

// Installer keeps the plugin installed. Make it with [New]; its methods may be called by several goroutines.
type Installer struct {
	opts  Options
	log   *slog.Logger
	entry []byte

	mu      sync.Mutex // held while files are looked at or changed
	gone    bool       // Uninstall was called
	patches limiter
	sums    sums

	statusMu sync.Mutex
	status   Status
}

// New returns an installer that has done nothing yet.
func New(o Options) (*Installer, error) {
	if o.Plugin == "" {
		return nil, errors.New("install CNI plugin: no binary is given")
	}
	if o.BinDir == "" {
		o.BinDir = "/opt/cni/bin"
	}
	if o.ConfDir == "" {
		o.ConfDir = "/etc/cni/net.d"
	}
	if o.Mode == "" {
		o.Mode = Chained
	}
	if _, err := ParseMode(string(o.Mode)); err != nil {
		return nil, fmt.Errorf("install CNI plugin: %w", err)
	}
	o.BinDir, o.ConfDir = filepath.Clean(o.BinDir), filepath.Clean(o.ConfDir)
	i := &Installer{opts: o, log: o.Logger}
	if i.log == nil {
		i.log = slog.Default()
	}
	var err error
	i.entry, err = entry(o)
	return i, err
}

// entry returns the plugin's configuration, on one line.
func entry(o Options) ([]byte, error) {
	conf := struct {
		Type      string `json:"type"`
		ManagedBy string `json:"managedBy"`
		Socket    string `json:"socket,omitempty"`
		Timeout   string `json:"timeout,omitempty"`
	}{Type: pluginType, ManagedBy: managedByUs, Socket: o.Socket}
	if o.Timeout > 0 {
		conf.Timeout = o.Timeout.String()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(conf); err != nil {
		return nil, fmt.Errorf("install CNI plugin: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Status returns the status of the last look.
func (i *Installer) Status() Status {
	i.statusMu.Lock()
	defer i.statusMu.Unlock()
	return i.status
}

// set makes s the status, and tells of it if it is new. Callers hold i.mu.
func (i *Installer) set(s Status) {
	i.statusMu.Lock()
	old := i.status
	s.Patches = max(s.Patches, old.Patches)
	i.status = s
	i.statusMu.Unlock()
	if s == old {
		return
	}
	log := i.log.Info
	if s.State == Unready {
		log = i.log.Warn
	}
	log("CNI plugin: "+s.Message, "state", s.State, "reason", s.Reason, "file", s.File)
	if i.opts.OnChange != nil {
		i.opts.OnChange(s)
	}
}

const (
	// settle is how long after a change others are waited for, as one rarely comes alone.
	settle = 20 * time.Millisecond
	// again is the time between looks when nothing is known to have changed. Not all file systems tell.
	again = 30 * time.Second
)

// Run keeps the plugin installed until ctx ends, and then returns nil and leaves it installed.
func (i *Installer) Run(ctx context.Context) error {
	w, err := newWatcher(i.log)
	if err != nil {
		return fmt.Errorf("install CNI plugin: %w", err)
	}
	defer w.close()
	for _, dir := range []string{i.opts.BinDir, i.opts.ConfDir} {
		if err := removeTemps(dir); err != nil {
			i.log.Warn("CNI plugin: unfinished files of an earlier agent could not be removed", "folder", dir, "err", err)
		}
	}
	for {
		// First watch, then look, or a change between them would go unseen.
		w.follow(i.opts.BinDir, i.opts.ConfDir)
		wait := i.look()
		if !w.wait(ctx, wait) {
			return nil
		}
	}
}
