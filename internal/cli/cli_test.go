package cli

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	env := map[string]string{"X_STATE_DIR": "/env", "X_PORT": "77"}
	for _, tt := range []struct {
		name      string
		args      []string
		env       map[string]string
		dir       string
		port      int
		wantError string
	}{
		{name: "defaults", dir: "/default", port: 1},
		{name: "environment", env: env, dir: "/env", port: 77},
		{name: "the command line wins", args: []string{"--port=5"}, env: env, dir: "/env", port: 5},
		{name: "empty variable", env: map[string]string{"X_PORT": ""}, dir: "/default", port: 1},
		{name: "bad variable", env: map[string]string{"X_PORT": "many"}, wantError: "environment variable X_PORT"},
		{name: "bad flag", args: []string{"--porte=5"}, wantError: "--help lists the flags"},
		{name: "argument", args: []string{"up"}, wantError: `unexpected argument "up"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := flag.NewFlagSet("x", flag.ContinueOnError)
			dir, port := fs.String("state-dir", "/default", ""), fs.Int("port", 1, "")
			err := Parse(fs, "X", tt.args, func(k string) string { return tt.env[k] })
			if tt.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantError) {
					t.Errorf("error %v, want one with %q", err, tt.wantError)
				}
				return
			}
			if err != nil || *dir != tt.dir || *port != tt.port {
				t.Errorf("got %q %d %v, want %q %d", *dir, *port, err, tt.dir, tt.port)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	fs.SetOutput(&out)
	fs.String("state-dir", "/default", "`folder` for state")
	fs.Usage = Usage(fs, "X", "x does a thing.")
	if err := Parse(fs, "X", []string{"--help"}, func(string) string { return "" }); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("error %v, want ErrHelp", err)
	}
	want := `x does a thing.

Flags, each with the environment variable that stands for it:

  --state-dir folder  ($X_STATE_DIR, default /default)
      folder for state
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestLogger(t *testing.T) {
	if _, err := Logger("xml", 0); err == nil {
		t.Error("an unknown format was taken")
	}
}
