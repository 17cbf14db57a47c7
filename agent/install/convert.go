package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

const (
	// convertedSuffix ends the name of a list made of a single plugin, after that one's name without its extension. As '-' is
	// before '.', such a name sorts before the other, and after all that sort before that.
	convertedSuffix = "-tailgate" + listExtension
	// convertedKey is the key in such a list that has the other's name. Runtimes ignore it.
	convertedKey = "tailgate.dev/convertedFrom"
)

// convertedPath returns the path of the list that is made of the file at path.
func convertedPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + convertedSuffix
}

// convertedFrom returns the name of the file that f was made of; "": it was not made here.
func convertedFrom(f *file) string {
	if !strings.HasSuffix(f.path, convertedSuffix) {
		return ""
	}
	s, err := root(f.text)
	if err != nil {
		return ""
	}
	keys, err := fields(f.text, s)
	if err != nil {
		return ""
	}
	from, _ := stringAt(f.text, keys[convertedKey])
	return from
}

// convert returns a list of f, which is a single plugin, and entry. A runtime does the same in its memory
// (libcni.ConfListFromConf), and as there, the list takes no plugins from a folder.
func convert(f *file, entry []byte) ([]byte, error) {
	s, err := root(f.text)
	if err != nil {
		return nil, err
	}
	keys, err := fields(f.text, s)
	if err != nil {
		return nil, err
	}
	from, err := json.Marshal(filepath.Base(f.path))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("{\n")
	for _, key := range []string{"cniVersion", "name"} {
		if at, ok := keys[key]; ok {
			fmt.Fprintf(&b, "  %q: %s,\n", key, at.of(f.text))
		}
	}
	fmt.Fprintf(&b, "  %q: %s,\n  \"loadOnlyInlinedPlugins\": true,\n  \"plugins\": [\n    %s,\n    %s\n  ]\n}\n", convertedKey, from, s.of(f.text), entry)
	return b.Bytes(), nil
}
