package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// managedBy is the key, and its value, that tell the entry that this package put in from one that a
// person did. The plugin ignores it.
const (
	managedBy   = "managedBy"
	managedByUs = "tailgate-agent"
)

// pluginType is the plugin's name in configurations, and the name of its binary.
const pluginType = "tailgate-cni"

// list is a network configuration list within a text.
type list struct {
	text []byte
	span
	keys    map[string]span
	plugins []element
}

// element is one plugin of a list.
type element struct {
	span
	kind    string // its type
	managed bool   // it is the entry of this package
}

// parseList reads the list in text at s; whether the plugin may be in it, check says. Errors here and there are the second
// half of a sentence that begins with the file's name.
func parseList(text []byte, s span) (*list, error) {
	keys, err := fields(text, s)
	if err != nil {
		return nil, fmt.Errorf("is not understood: %w", err)
	}
	at, ok := keys["plugins"]
	if !ok {
		return nil, errors.New(`has no "plugins"; write the plugins of the network into it`)
	}
	spans, err := elements(text, at)
	if err != nil {
		return nil, fmt.Errorf(`has "plugins" that are not understood: %w`, err)
	}
	l := &list{text: text, span: s, keys: keys}
	for i, e := range spans {
		p, err := parsePlugin(text, e)
		if err != nil {
			return nil, fmt.Errorf("has, as plugin %d, one that is not understood: %w", i+1, err)
		}
		l.plugins = append(l.plugins, p)
	}
	if len(spans) == 0 || len(spans) == len(l.managed()) {
		return nil, errors.New(`has no plugin in "plugins" that makes the pod's interface; write it there`)
	}
	return l, nil
}

// check looks for what would make the plugin fail, and with it every pod, where the plugins before it did not.
func (l *list) check() error {
	if err := checkNames(l.text, l.keys); err != nil {
		return err
	}
	if _, err := libcni.NetworkConfFromBytes(l.of(l.text)); err != nil {
		return fmt.Errorf("is refused by libcni: %w", err)
	}
	return nil
}

func parsePlugin(text []byte, s span) (element, error) {
	keys, err := fields(text, s)
	if err != nil {
		return element{}, err
	}
	kind, ok := stringAt(text, keys["type"])
	if !ok || kind == "" {
		return element{}, errors.New(`it has no "type"`)
	}
	by, _ := stringAt(text, keys[managedBy])
	return element{span: s, kind: kind, managed: kind == pluginType && by == managedByUs}, nil
}

// checkNames looks for a network name or a version that the plugin's library refuses.
func checkNames(text []byte, keys map[string]span) error {
	name, ok := stringAt(text, keys["name"])
	if !ok {
		return errors.New(`has no "name"; give the network one`)
	}
	if e := utils.ValidateNetworkName(name); e != nil {
		return fmt.Errorf("has the name %q, which CNI does not allow; write one of letters, digits, and _ . - within", name)
	}
	var versions []string
	if at, ok := keys["cniVersion"]; ok {
		v, ok := stringAt(text, at)
		if !ok {
			return errors.New(`has a "cniVersion" that is not in quotes; write one such as "1.0.0"`)
		}
		versions = append(versions, v)
	}
	if at, ok := keys["cniVersions"]; ok {
		var more []string
		if err := json.Unmarshal(at.of(text), &more); err != nil {
			return errors.New(`has "cniVersions" that are no list of versions; write one such as ["1.0.0"]`)
		}
		versions = append(versions, more...)
	}
	supported := version.All.SupportedVersions()
	for _, v := range versions {
		if v != "" && !slices.Contains(supported, v) { // "" stands for 0.1.0
			return fmt.Errorf("has the CNI version %q, which tailgate-cni does not speak; it speaks %s", v, strings.Join(supported, ", "))
		}
	}
	return nil
}

// managed returns the indexes of the plugins that are this package's.
func (l *list) managed() []int {
	var all []int
	for i, p := range l.plugins {
		if p.managed {
			all = append(all, i)
		}
	}
	return all
}

// foreign says whether a person chained the plugin.
func (l *list) foreign() bool {
	return slices.ContainsFunc(l.plugins, func(p element) bool { return p.kind == pluginType && !p.managed })
}

// with returns the text with entry as the last plugin of the list, or unchanged when it is in the chain already. What comes
// after it there is others' business: two that both insisted on being last would never end.
func (l *list) with(entry []byte) []byte {
	if own := l.managed(); len(own) == 1 && own[0] > 0 && !l.foreign() && sameJSON(l.plugins[own[0]].of(l.text), entry) {
		return l.text
	}
	text, plugins := l.without()
	if l.foreign() {
		return text
	}
	last := plugins[len(plugins)-1]
	// As the last plugin stands to what is before it, so stands the entry to the last plugin.
	gap := text[:last.start]
	gap = gap[len(bytes.TrimRight(gap, " \t\r\n")):]
	return slices.Concat(text[:last.end], []byte{','}, gap, entry, text[last.end:])
}

// without returns the text without this package's entries, and where the plugins that are left are in it.
func (l *list) without() ([]byte, []element) {
	var text []byte
	var left []element
	kept := 0 // all of l.text before it is in text, or is not to be
	for i, p := range l.plugins {
		switch {
		case p.managed && len(left) > 0: // goes with the comma before it
			text = append(text, l.text[kept:l.plugins[i-1].end]...)
			kept = p.end
		case p.managed: // goes with the comma after it
			text = append(text, l.text[kept:p.start]...)
			kept = l.plugins[i+1].start
		default:
			moved := len(text) - kept
			p.span = span{p.start + moved, p.end + moved}
			left = append(left, p)
		}
	}
	return append(text, l.text[kept:]...), left
}
