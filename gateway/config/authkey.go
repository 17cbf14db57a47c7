package config

import (
	"errors"
	"path/filepath"
	"strings"
)

// filePrefix begins an AuthKey that names a file.
const filePrefix = "file:"

// maxAuthKey is the size of the largest file that is taken for an auth key, in
// bytes. Keys have some 60.
const maxAuthKey = 4096

// ErrNoAuthKey is returned by [Config.ReadAuthKey] when the file sets no auth key.
var ErrNoAuthKey = errors.New(`the gateway's config sets no AuthKey; write "AuthKey": "file:/path/of/a/key" if this node is to log in`)

// AuthKeyFile returns the absolute path of the file that holds the auth key, and
// whether there is one. A relative path is taken from the working directory, as
// the engine takes it.
func (c Config) AuthKeyFile() (path string, ok bool) {
	path, ok = strings.CutPrefix(c.AuthKey, filePrefix)
	if !ok {
		return "", false
	}
	abs, err := filepath.Abs(path)
	if err != nil { // the working directory is gone
		return path, true
	}
	return abs, true
}

// ReadAuthKey returns the auth key, from its file if it has one, without white
// space around it. The error is [ErrNoAuthKey] or an [*Error] with reason
// [BadAuthKey]. The file's mode is not judged: kubelet writes Secrets with 0644 by
// default, into a directory that only the pod sees.
func (c Config) ReadAuthKey() (string, error) {
	path, isFile := c.AuthKeyFile()
	switch {
	case c.AuthKey == "":
		return "", ErrNoAuthKey
	case !isFile:
		return c.AuthKey, nil
	}
	raw, err := readFile(path, maxAuthKey)
	if err != nil {
		err.Reason = BadAuthKey
		return "", err
	}
	key := strings.TrimSpace(string(raw))
	switch {
	case key == "":
		return "", &Error{Path: path, Reason: BadAuthKey, Msg: "is empty; write one key into it"}
	case strings.ContainsFunc(key, notInKey):
		return "", &Error{Path: path, Reason: BadAuthKey, Msg: "holds something else than one key; write one key into it"}
	}
	return key, nil
}

// notInKey reports whether r cannot be part of an auth key: white space, control
// characters and all that is not ASCII. Headscale's keys are hex, Tailscale's are
// letters, digits, hyphens, and, with "?ephemeral=true" after them, a little more.
func notInKey(r rune) bool { return r <= ' ' || r >= 0x7f }
