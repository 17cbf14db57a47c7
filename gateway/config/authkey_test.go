package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadAuthKey(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	for _, c := range []struct{ name, authKey, want, wantErr string }{
		{name: "literal", authKey: "key-1", want: "key-1"},
		{name: "file", authKey: file("good", "\n key-2 \n"), want: "key-2"},
		{name: "none", wantErr: ErrNoAuthKey.Error()},
		{name: "missing", authKey: "file:" + filepath.Join(dir, "missing"), wantErr: "auth key file DIR/missing does not exist; write it, or name another file"},
		{name: "directory", authKey: "file:" + dir, wantErr: "auth key file DIR is a directory; name a file in it"},
		{name: "empty", authKey: file("empty", "\n"), wantErr: "auth key file DIR/empty is empty; write one key into it"},
		{name: "two", authKey: file("two", secret+"\n"+secret), wantErr: "auth key file DIR/two holds something else than one key; write one key into it"},
		{name: "binary", authKey: file("binary", secret+"\x00"), wantErr: "auth key file DIR/binary holds something else than one key; write one key into it"},
		{name: "large", authKey: file("large", strings.Repeat(secret, 1000)), wantErr: "auth key file DIR/large is larger than 4096 bytes; name the right file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Config{AuthKey: c.authKey}.ReadAuthKey()
			gotErr := ""
			if err != nil {
				gotErr = strings.ReplaceAll(err.Error(), dir, "DIR")
				if e, ok := errors.AsType[*Error](err); ok && e.Reason != BadAuthKey {
					t.Errorf("reason %q", e.Reason)
				}
			}
			if diff := cmp.Diff([]string{c.want, c.wantErr}, []string{got, gotErr}); diff != "" {
				t.Errorf("key, error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuthKeyFileIsAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	got, ok := Config{AuthKey: "file:sub/../key"}.AuthKeyFile()
	if want := filepath.Join(dir, "key"); got != want || !ok {
		t.Errorf("AuthKeyFile() = %q, %v; want %q", got, ok, want)
	}
	if got, ok := (Config{AuthKey: "key"}).AuthKeyFile(); ok {
		t.Errorf("AuthKeyFile() of a literal key = %q", got)
	}
}
